package circleci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

// Caps on the pages of a list: an endless one must not hold us. Real workflows have a handful of pages; the pipelines of
// a project, some twenty to a page, can be many.
const (
	maxPages         = 100
	maxPipelinePages = 5000
)

// get is a call that reads.
func get(op, doing, path string, ids ...id) call {
	return call{op: op, doing: doing, method: http.MethodGet, path: path, ids: ids}
}

// read makes one GET and decodes its answer into v.
func (c *Client) read(ctx context.Context, k call, v any) error {
	body, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	// Judged by the body, not by its Content-Type: a proxy's page is not JSON whatever it says, and the other way round.
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0 || body[0] != '{' || !json.Valid(body):
		return unusable(k.doing, "it is not a JSON object")
	case !utf8.Valid(body):
		return unusable(k.doing, "it is not valid UTF-8")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return unusable(k.doing, "it has fields of another type than documented")
	}
	return nil
}

// item is an object of the API.
type item interface {
	id() string
	// fault says what makes the object unusable; it is empty when nothing does.
	fault() string
}

// object reads the one object with the id want; empty means whichever CircleCI chooses.
func (c *Client) object(ctx context.Context, k call, v item, want string) error {
	if err := c.read(ctx, k, v); err != nil {
		return err
	}
	other := ""
	if want != "" && !strings.EqualFold(v.id(), want) {
		other = "it is about another object"
	}
	return check(k.doing, noID(v), other, v.fault())
}

// noID says that an object has no id. An empty one would equal that of nobody, such as the approver of a closed gate.
func noID(v item) string {
	if !approvals.IsUUID(v.id()) {
		return "it has no id"
	}
	return ""
}

type wirePage[T any] struct {
	Items         []T     `json:"items"`
	NextPageToken *string `json:"next_page_token"`
}

// readAll follows a list to its end. An item that moved to a later page while we read counts once, as last seen.
func readAll[T item](ctx context.Context, c *Client, k call) ([]T, error) {
	return readUntil(ctx, c, k, maxPages, func([]T) bool { return false })
}

// readUntil is readAll that ends after a page of which enough says so. One item that cannot be used makes the whole list
// an error that names its place: a list with holes would be taken for all there is. What comes with an error are the
// items that could be read.
func readUntil[T item](ctx context.Context, c *Client, k call, pages int, enough func(page []T) bool) ([]T, error) {
	var all []T
	var bad error // the first item that cannot be used
	at := map[string]int{}
	seen := map[string]bool{}
	for number := range pages {
		var page wirePage[T]
		if err := c.read(ctx, k, &page); err != nil {
			return all, err
		}
		if page.Items == nil {
			return all, unusable(k.doing, "it has no list of items")
		}
		for i, item := range page.Items {
			known, again := at[item.id()]
			switch fault := cmp.Or(noID(item), item.fault()); {
			case fault != "":
				bad = cmp.Or(bad, error(unusable(k.doing, fmt.Sprintf("item %d on page %d: %s", i+1, number+1, fault))))
			case again:
				all[known] = item
			default:
				at[item.id()] = len(all)
				all = append(all, item)
			}
		}
		if page.NextPageToken == nil || *page.NextPageToken == "" || enough(page.Items) {
			return all, bad
		}
		if seen[*page.NextPageToken] {
			return all, unusable(k.doing, "the list repeats its pages")
		}
		seen[*page.NextPageToken] = true
		k.query = url.Values{"page-token": {*page.NextPageToken}}
	}
	return all, unusable(k.doing, "the list has more pages than we read")
}
