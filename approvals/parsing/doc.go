// Package parsing holds the tests of the parsers of package approvals, and fuzzes
// them. They stand apart from its other tests, which work on a real store: fuzzing
// instruments all that a test imports, SQLite's C included.
package parsing
