// Package proof judges from the outside whether the product kept its promises
// after crashes, faults and races: what the API, the simulated Slack, the
// simulated CircleCI and the log say must fit together. Its tests are a machine
// that plays random stories in simulated time with every outgoing call broken
// and a crash after any commit; package soak kills the real daemon.
//
// The promises, by the names that findings carry:
//
//	I1 what was acknowledged exists
//	I2 every approve call follows a recorded decision of enough distinct people with accepted codes
//	I3 at most one decision per round
//	I4 no approve call after the gate is open by us, and exactly one that took
//	I5 every decision ends visibly: status, card and thread; nothing is told twice or out of order
//	I6 no step of an authenticator is accepted twice
//	I7 the log verifies and every checkpoint ever signed is of it
//	I8 the database passes its integrity check
//
// It plays nothing, starts nothing and is no part of the product: only tests
// import it.
package proof
