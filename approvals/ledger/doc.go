// Package ledger keeps an append-only log as an RFC 6962 Merkle tree whose
// heads are signed C2SP tlog-checkpoints (https://c2sp.org/tlog-checkpoint),
// and checks exports, receipts and older checkpoints of such a log offline.
//
// A leaf is one line of JSON without its newline, hashed byte for byte. The
// package interprets two of its members only: "seq", the leaf's number
// counting from 0, and "prev", the base64 hash of the leaf before it (32 zero
// bytes for the first). They say which leaf of a damaged export is the first
// bad one; the tree alone proves what was signed.
//
// A Writer appends leaves within one transaction. A Reader checks leaves in their
// order, for Verify as for a process that reads along. Both hold no more of the
// log than the right edge of its tree (Edge).
//
// The package does not know events, does not store anything (see Storage),
// does not decide when a checkpoint is signed, and keeps no copy of a log it
// has seen: whoever wants to notice a rewritten log keeps a checkpoint.
package ledger
