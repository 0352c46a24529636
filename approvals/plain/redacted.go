package plain

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "REDACTED"

// Redacted is embedded in types whose value must never be written anywhere by
// accident: they print, log and marshal as REDACTED. The types keep their value inside
// a function, or behind a pointer, besides: fmt cannot call methods on unexported
// fields of a surrounding struct, and prints what it finds there.
type Redacted struct{}

func (Redacted) String() string               { return redacted }
func (Redacted) GoString() string             { return redacted }
func (Redacted) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
func (Redacted) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (Redacted) LogValue() slog.Value         { return slog.StringValue(redacted) }
