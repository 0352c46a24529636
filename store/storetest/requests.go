package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func testRequestRoundTrip(t *testing.T, s approvals.Store) {
	for i, metadata := range []json.RawMessage{nil, json.RawMessage(`null`), json.RawMessage(`{"a":"<&>\u2028","n":12345678901234567890,"a":1e400}`)} {
		want := Request(int64(7*i+3), "api", "")
		want.Metadata = metadata
		want.Decisions = []approvals.Decision{{Action: approvals.ActionApprove, SlackUser: "U1", At: want.CreatedAt, MFA: "totp"}}
		want.Seen = approvals.Seen{Slack: approvals.SlackRef{Channel: "C", TS: "1.2"}, Shown: "x", Told: -1}
		save := func() { update(t, s, func(tx approvals.Tx) error { return tx.SaveRequest(&want) }) }
		check := func() {
			t.Helper()
			view(t, s, func(tx approvals.Tx) error {
				for _, key := range []string{want.ID, strconv.FormatInt(want.Number, 10)} {
					got, err := tx.Request(key)
					if diff := cmp.Diff(want, got); diff != "" || err != nil {
						t.Errorf("request %s: %v, -want +got:\n%s", key, err, diff)
					}
				}
				for _, key := range []string{"", "0", "-1", "0" + strconv.FormatInt(want.Number, 10), "99999999999999999999", "nope"} {
					if _, err := tx.Request(key); !errors.Is(err, approvals.ErrNotFound) {
						t.Errorf("request %q: got %v; want %v", key, err, approvals.ErrNotFound)
					}
				}
				return nil
			})
		}
		for version, change := range []func(){
			func() {},
			func() { want.Seen.Told = 7 },
			func() { want.Status, want.ReleasedAt = approvals.Released, want.CreatedAt },
			func() { want.App, want.Facts.Branch = "web"+strconv.Itoa(i), "other" },
		} {
			change()
			save()
			if want.Version != int64(version+1) {
				t.Errorf("got version %d; want %d", want.Version, version+1)
			}
			check()
		}
		view(t, s, func(tx approvals.Tx) error {
			found, err := tx.Requests(approvals.Filter{Apps: []string{want.App}, Branch: "other", Limit: 5})
			if len(found) != 1 || err != nil {
				t.Errorf("by what was changed: got %d, %v; want 1", len(found), err)
			}
			return nil
		})
	}
}

func testRequestConflicts(t *testing.T, s approvals.Store) {
	save := func(r *approvals.Request) error {
		return s.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(r) })
	}
	conflict := func(what string, r approvals.Request) {
		t.Helper()
		if err := save(&r); !errors.Is(err, approvals.ErrConflict) {
			t.Errorf("%s: got %v; want %v", what, err, approvals.ErrConflict)
		}
	}
	first := Request(1, "api", "w")
	if err := save(&first); err != nil {
		t.Fatal(err)
	}
	stale := first
	if err := save(&first); err != nil {
		t.Fatal(err)
	}
	conflict("stale version", stale)
	conflict("number that is taken", Request(1, "api", "w2"))
	again := Request(2, "api", "w2")
	again.ID = first.ID
	conflict("id that is taken", again)
	gone := Request(3, "api", "w3")
	gone.Version = 1
	conflict("row that is not there", gone)

	number := int64(10)
	for _, status := range approvals.Statuses() {
		t.Run(string(status), func(t *testing.T) {
			first.Status = status
			if err := save(&first); err != nil {
				t.Fatal(err)
			}
			number++
			second := Request(number, "api", "w")
			err := save(&second)
			free := status == approvals.Expired || status == approvals.Canceled || status == approvals.Superseded
			if free != (err == nil) || !free && !errors.Is(err, approvals.ErrConflict) {
				t.Fatalf("second request for the workflow: got %v; want success %v", err, free)
			}
			if free { // make room again, and see that the first cannot come back meanwhile
				back := first
				back.Status = approvals.Approved
				conflict("first comes back", back)
				second.Status = approvals.Canceled
				if err := save(&second); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	staging := Request(32, "api", "w")
	staging.Environment = "staging"
	for _, other := range []approvals.Request{Request(30, "web", "w"), Request(31, "api", "w2"), staging} {
		if err := save(&other); err != nil {
			t.Errorf("another app, workflow or environment: got %v; want no error", err)
		}
	}
}

// filterStart is a minute before the first request of addFiltered was made.
var filterStart = time.UnixMilli(1_800_000_000_000).UTC()

// addFiltered stores twelve requests that differ in what filters ask for.
func addFiltered(t *testing.T, s approvals.Store) {
	statuses := []approvals.Status{approvals.Pending, approvals.Released, approvals.Expired}
	update(t, s, func(tx approvals.Tx) error {
		for i := 1; i <= 12; i++ {
			r := Request(int64(i), []string{"api", "web"}[i%2], fmt.Sprint("w", i))
			r.Status = statuses[i%3]
			r.Facts.Revision = fmt.Sprintf("%040x", i)
			r.Facts.Branch = []string{"main", "dev", "x", "y"}[i%4]
			r.CreatedAt = filterStart.Add(time.Duration(i) * time.Minute)
			if i%6 == 0 {
				r.Decisions = []approvals.Decision{{SlackUser: "U1"}}
			}
			if r.Status == approvals.Released { // 1, 4, 7, 10; the older the later
				r.ReleasedAt = filterStart.Add(time.Duration(100-i/4) * time.Minute)
			}
			if err := tx.SaveRequest(&r); err != nil {
				return err
			}
		}
		return nil
	})
}

func testFilters(t *testing.T, s approvals.Store) {
	addFiltered(t, s)
	both := []string{"api", "web"}
	for _, tt := range []struct {
		name   string
		filter approvals.Filter
		want   []int64
	}{
		{"all", approvals.Filter{}, []int64{12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{"no apps", approvals.Filter{Apps: []string{}}, nil},
		{"apps", approvals.Filter{Apps: []string{"api", "gone"}}, []int64{12, 10, 8, 6, 4, 2}},
		{"statuses", approvals.Filter{Statuses: []approvals.Status{approvals.Pending, approvals.Expired}}, []int64{12, 11, 9, 8, 6, 5, 3, 2}},
		{"open", approvals.Filter{Statuses: approvals.OpenStatuses(), Environment: "production", Branch: "main"}, []int64{12}},
		{"open and voted on", approvals.Filter{Statuses: approvals.OpenStatuses(), Voted: true}, []int64{12, 6}},
		{"closed", approvals.Filter{Statuses: approvals.ClosedStatuses(), Environment: "production"}, []int64{11, 10, 8, 7, 5, 4, 2, 1}},
		{"app and status", approvals.Filter{Apps: []string{"web"}, Statuses: []approvals.Status{approvals.Released}}, []int64{7, 1}},
		{"apps and statuses", approvals.Filter{Apps: both, Statuses: []approvals.Status{approvals.Released, approvals.Pending}}, []int64{12, 10, 9, 7, 6, 4, 3, 1}},
		{"place", approvals.Filter{Apps: []string{"web"}, Environment: "production"}, []int64{11, 9, 7, 5, 3, 1}},
		{"branch", approvals.Filter{Branch: "main"}, []int64{12, 8, 4}},
		{"app and branch", approvals.Filter{Apps: both, Branch: "dev", Statuses: approvals.ClosedStatuses()}, []int64{5, 1}},
		{"environment", approvals.Filter{Environment: "staging"}, nil},
		{"workflow", approvals.Filter{WorkflowID: "w3"}, []int64{3}},
		{"workflow of another app", approvals.Filter{Apps: []string{"api"}, WorkflowID: "w3"}, nil},
		{"full revision", approvals.Filter{Revision: fmt.Sprintf("%040x", 11)}, []int64{11}},
		{"revision prefix", approvals.Filter{Revision: fmt.Sprintf("%039x", 0), Apps: []string{"web"}}, []int64{11, 9, 7, 5, 3, 1}},
		{"revision of nobody", approvals.Filter{Revision: "f%"}, nil},
		{"times", approvals.Filter{CreatedFrom: filterStart.Add(3 * time.Minute), CreatedTo: filterStart.Add(5 * time.Minute)}, []int64{5, 4, 3}},
		{"since", approvals.Filter{CreatedFrom: filterStart.Add(10 * time.Minute)}, []int64{12, 11, 10}},
		{"page", approvals.Filter{Before: 6}, []int64{5, 4, 3, 2, 1}},
		{"last page", approvals.Filter{Before: 1}, nil},
		{"released", approvals.Filter{Released: true}, []int64{1, 7, 4, 10}},
		{"released of a place", approvals.Filter{Released: true, Apps: []string{"api"}, Environment: "production"}, []int64{4, 10}},
		{"released after", approvals.Filter{Released: true, ReleasedAfter: filterStart.Add(98 * time.Minute)}, []int64{1, 7, 4}},
		{"after", approvals.Filter{Apps: both, Statuses: approvals.OpenStatuses(), After: 6}, []int64{12, 9}},
		{"released of apps before", approvals.Filter{Released: true, Apps: both, Before: 8}, []int64{1, 7, 4}},
	} {
		for _, limit := range []int{0, 2, 100} {
			want := tt.want
			if limit == 2 && len(want) > 2 {
				want = want[:2]
			}
			tt.filter.Limit = limit
			var got []int64
			view(t, s, func(tx approvals.Tx) error {
				list, err := tx.Requests(tt.filter)
				for _, r := range list {
					got = append(got, r.Number)
				}
				return err
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, limit %d: -want +got:\n%s", tt.name, limit, diff)
			}
		}
	}
}
