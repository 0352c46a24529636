// Package totp computes and compares time-based one-time codes (RFC 6238:
// SHA-1, six digits, 30 seconds, one step of skew either way) and holds the
// table that slows down guessing.
//
// It is pure: it reads no clock and keeps no state. It does not remember which
// step was used last, does not count attempts on its own and does not seal
// secrets; its callers do all three inside their transactions.
package totp
