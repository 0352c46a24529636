package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// BenchmarkCommit is a request with an event and three effects, at full durability.
func BenchmarkCommit(b *testing.B) {
	db := storetest.New(b)
	for b.Loop() {
		r := request("api", "")
		update(b, db, func(tx approvals.Tx) error { return step(tx, &r) })
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkClaim claims and puts back with 10,000 effects waiting, inside one
// transaction, so that the disk is not measured.
func BenchmarkClaim(b *testing.B) {
	for _, bb := range []struct {
		name   string
		effect func(i int) approvals.Effect
	}{
		{"lane each", func(i int) approvals.Effect { return approvals.Effect{Lane: fmt.Sprint("f:", i)} }},
		{"one lane", func(int) approvals.Effect { return approvals.Effect{Lane: "f:c"} }},
		{"one lane, due later", func(i int) approvals.Effect {
			e := approvals.Effect{Lane: "f:c"}
			if i < 9_999 {
				e.Due = time.Now().Add(time.Hour)
			}
			return e
		}},
		{"one lane, blocked chains", func(i int) approvals.Effect {
			e := approvals.Effect{Lane: "f:c", Chain: fmt.Sprint(i % 500)}
			if i < 500 {
				e.Due = time.Now().Add(time.Hour)
			}
			if i == 9_999 {
				e.Chain = ""
			}
			return e
		}},
		{"others in a claimed lane", func(i int) approvals.Effect {
			if i == 9_999 {
				return approvals.Effect{Lane: "f:d"}
			}
			return approvals.Effect{Lane: "f:c"}
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			db := storetest.New(b)
			update(b, db, func(tx approvals.Tx) error {
				for i := range 10_000 {
					if err := tx.Enqueue(bb.effect(i)); err != nil {
						return err
					}
				}
				return nil
			})
			time.Sleep(2 * time.Millisecond) // so that all are due
			update(b, db, func(tx approvals.Tx) error {
				if bb.name == "others in a claimed lane" {
					if _, err := tx.Claim("f", time.Now(), time.Hour); err != nil {
						return err
					}
				}
				for b.Loop() {
					now := time.Now()
					e, err := tx.Claim("f", now, time.Minute)
					if err != nil {
						return err
					}
					if err := tx.Finish(e, now, ""); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

func BenchmarkRequests(b *testing.B) {
	open := approvals.OpenStatuses()
	for _, bb := range []struct {
		name   string
		filter approvals.Filter
	}{
		{"newest 50", approvals.Filter{Limit: 50}},
		{"open", approvals.Filter{Statuses: open, Limit: 50}},
		{"open of an app", approvals.Filter{Apps: []string{"app7"}, Statuses: open, Limit: 50}},
		{"closed of an app", approvals.Filter{Apps: []string{"app7"}, Statuses: approvals.ClosedStatuses(), Limit: 50}},
		{"revision", approvals.Filter{Revision: "0000000", Limit: 50}},
		{"branch of nobody", approvals.Filter{Branch: "nope", Limit: 50}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			db := many(b)
			for b.Loop() {
				view(b, db, func(tx approvals.Tx) error {
					_, err := tx.Requests(bb.filter)
					return err
				})
			}
		})
	}
}

// many has 10,000 requests, 100 of them open.
func many(b *testing.B) *store.DB {
	db := storetest.New(b)
	update(b, db, func(tx approvals.Tx) error {
		for i := range 10_000 {
			r := request(fmt.Sprint("app", i%10), "")
			if r.Status = approvals.Deployed; i%100 == 0 {
				r.Status = approvals.Pending
			}
			r.Facts.Revision = fmt.Sprintf("%07x%033d", i, 0)
			if err := tx.SaveRequest(&r); err != nil {
				return err
			}
		}
		return nil
	})
	return db
}
