// Package audit reads the log for people who check it: the exports, the comparison
// with the CI provider, and who has access. Nothing in it gives or ends a right, and
// it writes nothing but that the log was read.
package audit
