// Package approvals holds the rules of a deploy approval: what a request is,
// who may decide it, what a decision causes, and how every effect is carried
// out exactly once although any call may fail and the process may die anywhere.
//
// Every step is one transaction that changes a request, appends the events that
// record the change and enqueues the effects that it causes. The [Worker]
// claims effects and delivers them; [Service] holds the use cases.
//
// The package knows no Slack, SQL or HTTP. What it needs of them are the ports
// in ports.go.
package approvals
