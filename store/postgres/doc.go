// Package postgres is the engine that keeps a store on a PostgreSQL server, on
// which several processes, called nodes, work at once.
//
// One transaction writes at a time, over all nodes: each one begins by locking the
// one row of table meta, so that READ COMMITTED reads are as good as a snapshot.
// In the same round trip it renews the row of its node in table nodes, which is the
// node's heartbeat, counts its commits, and lets no node write that others have
// declared dead. The count also tells after a lost connection whether the last
// commit was made, and after a failover whether the server has lost one.
package postgres
