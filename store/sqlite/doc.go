// Package sqlite is the engine that keeps a store in one SQLite file.
//
// One connection writes, at full durability; a pool of read-only ones reads.
// Several programs may use one file at once: nothing is cached between
// transactions.
package sqlite
