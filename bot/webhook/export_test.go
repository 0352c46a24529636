package webhook

import (
	"net/http"
	"slices"
	"strings"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Access lists the routes with their roles, as they are described.
func Access() map[string][]string {
	all := map[string][]string{}
	for route := range (&Handler{}).endpoints() {
		roles := []string{}
		for _, role := range access[route] {
			roles = append(roles, string(role))
		}
		all[strings.Replace(route, "{$}", "", 1)] = roles
	}
	return all
}

// Codes lists the codes of each status.
func Codes() map[int][]approvals.Code {
	all := map[int][]approvals.Code{}
	for code, kind := range kinds {
		all[kind.status] = append(all[kind.status], code)
	}
	for _, codes := range all {
		slices.Sort(codes)
	}
	return all
}

// HTTP2 is how a client looks after its connections.
func (c *Client) HTTP2() *http.HTTP2Config { return c.http.Transport.(*http.Transport).HTTP2 }
