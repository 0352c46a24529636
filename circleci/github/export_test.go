package github

import (
	"bytes"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// ReadComparison reads an answer, and sums its commits up.
func ReadComparison(data []byte) (approvals.Commits, error) {
	var p comparison
	err := p.read("application/json", bytes.NewReader(data))
	return of(p.commits), err
}
