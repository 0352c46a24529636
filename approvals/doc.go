// Package approvals holds the rules of a deploy approval: what a request is,
// who may decide it, what a decision causes, and how every effect is carried
// out exactly once although any call may fail and the process may die anywhere.
//
// Every step is one transaction that appends the events which record a change,
// applies them to the request, and makes work due. The [Worker] claims that work and
// does it; [Service] holds the use cases, and [Admin] those of the operator.
//
// The package knows no Slack, SQL or HTTP. What it needs of them are the ports
// [Store], [CI], [Directory], [CodeHost], [Identity] and [Deliverer].
package approvals
