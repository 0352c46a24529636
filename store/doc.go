// Package store keeps everything durable behind the ports of package approvals:
// requests, what is kept of people and tokens, work that is due, the log and
// sealed secrets. Its statements are the same for every engine; what differs
// between databases is in a package for each, such as store/sqlite.
//
// Several programs may use one database at once: nothing is cached between
// transactions. Secrets are sealed with keys that are kept outside of it.
//
// The package does not know what an event or a piece of work means, retries
// nothing, and does not interpret the log beyond storing it.
package store
