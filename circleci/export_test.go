package circleci

import "github.com/rack-gateway/rack-gateway-approvals/approvals"

// ParametersOf tells what was given from the defaults that a configuration declares.
func ParametersOf(source string, given map[string]string) *approvals.Parameters {
	return parameters(given, wireConfig{Source: source})
}
