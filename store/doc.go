// Package store keeps everything durable in one SQLite file behind the ports of
// package approvals: requests, what is kept of people and tokens, work
// that is due, the log and sealed secrets.
//
// One connection writes, at full durability; a pool of read-only ones reads.
// Several programs may use one file at once: nothing is cached between
// transactions. Secrets are sealed with keys that are kept outside of the file.
//
// The package does not know what an event or a piece of work means, retries
// nothing, and does not interpret the log beyond storing it.
package store
