package github

import (
	"bytes"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// ReadComparison reads an answer, and sums its commits up.
func ReadComparison(data []byte) (approvals.Commits, error) {
	v, err := readComparison("application/json", bytes.NewReader(data))
	if err != nil {
		return approvals.Commits{}, err
	}
	return of(v.(comparison).commits), nil
}
