// Package enroll serves the page on which an admin sets up an authenticator:
// GET and POST /enroll/{token}, behind the one-time link that
// "rack-gatewayd user enroll" prints.
//
// Opening the link changes nothing, so that link previews do no harm. Its
// button shows the key once, and a code from the app confirms it. The page
// needs no script and loads nothing from anywhere.
//
// The package decides nothing: whether a link works, whether the key may be
// shown and whether a code is right is the service's to judge. It does not
// limit how often an address may ask, makes no links, and never logs a token,
// a key or a code.
package enroll
