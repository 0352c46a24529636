package store

import (
	"errors"

	"github.com/rack-gateway/rack-gateway-approvals/store/engine"
	"github.com/rack-gateway/rack-gateway-approvals/store/postgres"
	"github.com/rack-gateway/rack-gateway-approvals/store/sqlite"
)

// Broken reports whether err is trouble that does not pass by itself, such as I/O
// errors, damage, and files that were replaced.
func Broken(err error) bool { return sqlite.Broken(err) }

// What an engine says of its database; see package engine.
var (
	ErrUnavailable = engine.ErrUnavailable
	ErrReplaced    = engine.ErrReplaced
	ErrNewerSchema = engine.ErrNewerSchema
	ErrDamaged     = engine.ErrDamaged
	ErrWentBack    = postgres.ErrWentBack
)

// Why [Open] refuses a key ring.
var (
	// ErrMissingKey: the key ring lacks a key that sealed secrets still need.
	ErrMissingKey = errors.New("key ring lacks a key that is still used")
	// ErrWrongKey: the key ring has another key under an id than the database knows.
	ErrWrongKey = errors.New("key ring has another key under a known id")
)
