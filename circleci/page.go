package circleci

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
)

// Caps on the pages of a list: an endless one must not hold us. Real workflows have a handful of pages; the pipelines of
// a project, some twenty to a page, can be many.
const (
	maxPages         = 100
	maxPipelinePages = 5000
)

// read makes one GET and decodes its answer into v.
func (c *Client) read(ctx context.Context, k call, v any) error {
	body, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	// Judged by the body, not by its Content-Type: a proxy's page is not JSON whatever it says, and the other way round.
	if body = bytes.TrimSpace(body); len(body) == 0 || body[0] != '{' || !json.Valid(body) {
		return unusable(k.doing, "the answer is not a JSON object")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return unusable(k.doing, "the answer has fields of another type than documented")
	}
	return nil
}

type wirePage[T any] struct {
	Items         []T     `json:"items"`
	NextPageToken *string `json:"next_page_token"`
}

// readAll follows a list to its end. An item that moved to a later page while we read counts once, as last seen.
func readAll[T any](ctx context.Context, c *Client, k call, id func(T) string) ([]T, error) {
	return readUntil(ctx, c, k, maxPages, id, func([]T) bool { return false })
}

// readUntil is readAll that ends after a page of which enough says so.
func readUntil[T any](ctx context.Context, c *Client, k call, pages int, id func(T) string, enough func(page []T) bool) ([]T, error) {
	var all []T
	at := map[string]int{}
	seen := map[string]bool{}
	for range pages {
		var page wirePage[T]
		if err := c.read(ctx, k, &page); err != nil {
			return nil, err
		}
		if page.Items == nil {
			return nil, unusable(k.doing, "the answer has no list of items")
		}
		for _, item := range page.Items {
			if i, again := at[id(item)]; again {
				all[i] = item
				continue
			}
			at[id(item)] = len(all)
			all = append(all, item)
		}
		if page.NextPageToken == nil || *page.NextPageToken == "" || enough(page.Items) {
			return all, nil
		}
		if seen[*page.NextPageToken] {
			return nil, unusable(k.doing, "the list repeats its pages")
		}
		seen[*page.NextPageToken] = true
		k.query = url.Values{"page-token": {*page.NextPageToken}}
	}
	return nil, unusable(k.doing, "the list has more pages than we read")
}
