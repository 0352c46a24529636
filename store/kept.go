package store

func (t *tx) Kept(kind, id string) ([]byte, error) {
	var state []byte
	err := t.get("SELECT state FROM kept WHERE kind = ? AND id = ?", []any{kind, id}, &state)
	return state, err
}

const selectKept = "SELECT state FROM kept WHERE kind = ? ORDER BY place"

func (t *tx) AllKept(kind string) ([][]byte, error) {
	return list(t, single[[]byte], selectKept, kind)
}

func (t *tx) Keep(kind, id string, state []byte) error {
	if state == nil {
		state = []byte{} // nil is NULL
	}
	return t.exec(`INSERT INTO kept (kind, id, place, state)
		VALUES (?, ?, (SELECT coalesce(max(place), 0) + 1 FROM kept WHERE kind = ?), ?)
		ON CONFLICT (kind, id) DO UPDATE SET state = excluded.state`, kind, id, kind, state)
}
