package ledger

// EdgeOf reads the edge of the first size leaves from the stored hashes of
// their complete subtrees, with one call of Size and one of ReadHashes. It
// returns ErrBehind if the log has fewer leaves.
func EdgeOf(s Storage, size int64) (Edge, error) {
	if err := checkSize(s, size); err != nil {
		return Edge{}, err
	}
	e, _, err := readEdge(s, size)
	return e, err
}
