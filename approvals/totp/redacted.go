package totp

import (
	"fmt"
	"io"
	"log/slog"
)

const redactedText = "REDACTED"

// redacted is embedded in types whose value must never be written anywhere by
// accident. The types keep their value inside a function besides: fmt cannot
// call methods on unexported fields of a surrounding struct, and prints what
// it finds there, through pointers too.
type redacted struct{}

func (redacted) String() string               { return redactedText }
func (redacted) GoString() string             { return redactedText }
func (redacted) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redactedText) }
func (redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + redactedText + `"`), nil }
func (redacted) MarshalText() ([]byte, error) { return []byte(redactedText), nil }
func (redacted) LogValue() slog.Value         { return slog.StringValue(redactedText) }
