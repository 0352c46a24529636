package store_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

func TestRequestRoundTrip(t *testing.T) {
	db := storetest.New(t)
	for _, metadata := range []json.RawMessage{nil, json.RawMessage(`{"a":"<&>","n":12345678901234567890}`)} {
		want := request("api", "")
		want.Metadata = metadata
		want.Decisions = []approvals.Decision{{Action: approvals.ActionApprove, SlackUser: "U1", At: want.CreatedAt, MFA: "totp"}}
		update(t, db, func(tx approvals.Tx) error { return tx.SaveRequest(&want) })
		if want.Number == 0 || want.Version != 1 {
			t.Errorf("after insert: got number %d, version %d; want a number and 1", want.Number, want.Version)
		}
		want.Status, want.Facts.Branch = approvals.Approved, "main"
		update(t, db, func(tx approvals.Tx) error { return tx.SaveRequest(&want) })
		view(t, db, func(tx approvals.Tx) error {
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
}

// Requests of older versions must stay readable: what is in the file may not be
// renamed or removed without a migration.
func TestStoredRequestStaysReadable(t *testing.T) {
	data, err := os.ReadFile("testdata/request.json")
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var r approvals.Request
	if err := dec.Decode(&r); err != nil {
		t.Fatalf("a field of approvals.Request is gone; stored requests still have it: %v", err)
	}
}

func TestSaveRequestConflicts(t *testing.T) {
	db := storetest.New(t)
	save := func(r *approvals.Request) error {
		return db.Update(t.Context(), func(tx approvals.Tx) error { return tx.SaveRequest(r) })
	}
	first := request("api", "w")
	if err := save(&first); err != nil {
		t.Fatal(err)
	}
	stale := first
	if err := save(&first); err != nil {
		t.Fatal(err)
	}
	if err := save(&stale); !errors.Is(err, approvals.ErrConflict) {
		t.Errorf("stale version: got %v; want %v", err, approvals.ErrConflict)
	}

	for _, status := range approvals.Statuses() {
		t.Run(string(status), func(t *testing.T) {
			first.Status = status
			if err := save(&first); err != nil {
				t.Fatal(err)
			}
			second := request("api", "w")
			err := save(&second)
			free := status == approvals.Expired || status == approvals.Canceled || status == approvals.Superseded
			if free != (err == nil) || !free && !errors.Is(err, approvals.ErrConflict) {
				t.Fatalf("second request for the workflow: got %v; want success %v", err, free)
			}
			if free { // make room again, and see that the first cannot come back meanwhile
				back := first
				back.Status = approvals.Approved
				if err := save(&back); !errors.Is(err, approvals.ErrConflict) {
					t.Errorf("first comes back: got %v; want %v", err, approvals.ErrConflict)
				}
				second.Status = approvals.Canceled
				if err := save(&second); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for _, other := range []approvals.Request{request("web", "w"), request("api", "w2")} {
		if err := save(&other); err != nil {
			t.Errorf("another app or workflow: got %v; want no error", err)
		}
	}
	staging := request("api", "w2")
	staging.Environment = "staging"
	if err := save(&staging); err != nil {
		t.Errorf("another environment: got %v; want no error", err)
	}
	again := staging
	again.Version, again.Facts.WorkflowID = 0, "w3"
	if err := save(&again); !errors.Is(err, approvals.ErrConflict) {
		t.Errorf("same id again: got %v; want %v", err, approvals.ErrConflict)
	}
}

func TestRequestsFilter(t *testing.T) {
	db := storetest.New(t)
	start := time.UnixMilli(1_800_000_000_000).UTC()
	statuses := []approvals.Status{approvals.Pending, approvals.Released, approvals.Expired}
	update(t, db, func(tx approvals.Tx) error {
		for i := 1; i <= 12; i++ {
			r := request([]string{"api", "web"}[i%2], fmt.Sprint("w", i))
			r.Status = statuses[i%3]
			r.Facts.Revision = fmt.Sprintf("%040x", i)
			r.Facts.Branch = []string{"main", "dev", "x", "y"}[i%4]
			r.CreatedAt = start.Add(time.Duration(i) * time.Minute)
			if err := tx.SaveRequest(&r); err != nil {
				return err
			}
		}
		return nil
	})
	for _, tt := range []struct {
		name   string
		filter approvals.Filter
		want   []int64
	}{
		{"all", approvals.Filter{}, []int64{12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		{"no apps", approvals.Filter{Apps: []string{}}, nil},
		{"apps", approvals.Filter{Apps: []string{"api", "gone"}}, []int64{12, 10, 8, 6, 4, 2}},
		{"statuses", approvals.Filter{Statuses: []approvals.Status{approvals.Pending, approvals.Expired}}, []int64{12, 11, 9, 8, 6, 5, 3, 2}},
		{"app and status", approvals.Filter{Apps: []string{"web"}, Statuses: []approvals.Status{approvals.Released}}, []int64{7, 1}},
		{"branch", approvals.Filter{Branch: "main"}, []int64{12, 8, 4}},
		{"environment", approvals.Filter{Environment: "staging"}, nil},
		{"workflow", approvals.Filter{WorkflowID: "w3"}, []int64{3}},
		{"pipeline", approvals.Filter{PipelineID: "p-w4"}, []int64{4}},
		{"project", approvals.Filter{Project: "gh/acme/web", Limit: 2}, []int64{11, 9}},
		{"full revision", approvals.Filter{Revision: fmt.Sprintf("%040x", 11)}, []int64{11}},
		{"revision prefix", approvals.Filter{Revision: fmt.Sprintf("%039x", 0), Limit: 3}, []int64{12, 11, 10}},
		{"revision of nobody", approvals.Filter{Revision: "f%"}, nil},
		{"times", approvals.Filter{CreatedFrom: start.Add(3 * time.Minute), CreatedTo: start.Add(5 * time.Minute)}, []int64{5, 4, 3}},
		{"page", approvals.Filter{Before: 6, Limit: 2}, []int64{5, 4}},
		{"last page", approvals.Filter{Before: 1}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []int64
			view(t, db, func(tx approvals.Tx) error {
				list, err := tx.Requests(tt.filter)
				for _, r := range list {
					got = append(got, r.Number)
				}
				return err
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
