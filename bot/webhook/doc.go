// Package webhook is the HTTP API of the approvals: its wire types, the
// [Handler] that serves it and the [Client] that CI jobs and terminals use.
//
// The handler judges form only: tokens, roles, sizes, JSON, limits. Whether a
// request is right, and every change, is the work of the [Service] behind it.
// The package knows no Slack and no SQL, serves neither Slack's endpoints nor
// the enrolment page nor metrics, and opens no listener.
package webhook
