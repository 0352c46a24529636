package store_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
	"github.com/rack-gateway/rack-gateway-approvals/store"
	"github.com/rack-gateway/rack-gateway-approvals/store/storetest"
)

// side runs op b.N times in all, in callers goroutines.
func side(b *testing.B, callers int, op func(i int64) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := op(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkCreate is a request with its event and two pieces of work, at full
// durability, by several callers at once.
func BenchmarkCreate(b *testing.B) {
	for _, engine := range []struct {
		name string
		open func(b *testing.B) *store.DB
	}{
		{"sqlite", func(b *testing.B) *store.DB { return storetest.New(b) }},
		{"postgres", func(b *testing.B) *store.DB { return storetest.OpenURL(b, storetest.Server(b), storetest.Keys) }},
	} {
		for _, callers := range []int{1, 8, 32} {
			b.Run(fmt.Sprint(engine.name, "/c=", callers), func(b *testing.B) {
				db := engine.open(b)
				f, err := storetest.RateF(b.TempDir())
				if err != nil {
					b.Fatal(err)
				}
				side(b, callers, func(i int64) error {
					r := request("api")
					return db.Update(b.Context(), func(tx approvals.Tx) error { return step(tx, &r) })
				})
				b.ReportMetric(f, "F/s")
			})
		}
	}
}

// BenchmarkDeliver claims a piece of work in one transaction and ends the claim
// in another, as a worker does, while 1,000 pieces wait.
func BenchmarkDeliver(b *testing.B) {
	for _, callers := range []int{1, 8, 32} {
		b.Run(fmt.Sprint("c=", callers), func(b *testing.B) {
			db := storetest.New(b)
			update(b, db, func(tx approvals.Tx) error {
				for i := range 1000 {
					if err := tx.Ask(approvals.Work{Kind: "card", Subject: fmt.Sprint(i), Lane: fmt.Sprint("slack:C", i%10)}); err != nil {
						return err
					}
				}
				return nil
			})
			ctx := approvals.Background(b.Context())
			side(b, callers, func(i int64) error { return deliver(ctx, db, fmt.Sprint("slack:C", i%10)) })
		})
	}
}

func deliver(ctx context.Context, db *store.DB, lane string) error {
	var work []approvals.Work
	err := db.Update(ctx, func(tx approvals.Tx) (err error) {
		work, err = tx.Claim(lane, 1, time.Minute)
		return err
	})
	if err != nil || len(work) == 0 {
		return err
	}
	w := work[0]
	w.Due, w.Attempt = time.Now(), 0
	return db.Update(ctx, func(tx approvals.Tx) error { return tx.Finish(w) })
}

// BenchmarkWork measures the verbs of work inside one transaction, so that the
// disk is not measured, with much work waiting.
func BenchmarkWork(b *testing.B) {
	later := time.Now().Add(time.Hour)
	for _, bb := range []struct {
		name string
		rows int
		work func(i int) approvals.Work
	}{
		{"100,000 due in one lane", 100_000, func(int) approvals.Work { return approvals.Work{Lane: "f:a"} }},
		{"100,000 later in one lane", 100_000, func(i int) approvals.Work {
			if i == 7 {
				return approvals.Work{Lane: "f:a", Rank: 5}
			}
			return approvals.Work{Lane: "f:a", Due: later, Rank: i % 3}
		}},
		{"300 lanes", 3_000, func(i int) approvals.Work { return approvals.Work{Lane: fmt.Sprint("f:", i%300)} }},
	} {
		db := storetest.New(b)
		update(b, db, func(tx approvals.Tx) error {
			for i := range bb.rows {
				w := bb.work(i)
				w.Kind, w.Subject = "card", fmt.Sprint(i)
				if err := tx.Ask(w); err != nil {
					return err
				}
			}
			return nil
		})
		b.Run(bb.name+"/lanes", func(b *testing.B) {
			for b.Loop() {
				view(b, db, func(tx approvals.Tx) error { _, err := tx.Lanes("f"); return err })
			}
		})
		b.Run(bb.name+"/claim and finish", func(b *testing.B) {
			update(b, db, func(tx approvals.Tx) error {
				lanes, err := tx.Lanes("f")
				if err != nil {
					return err
				}
				for b.Loop() {
					work, err := tx.Claim(lanes[0].Name, 1, time.Minute)
					if err != nil {
						return err
					}
					if len(work) != 1 {
						return fmt.Errorf("claimed %d", len(work))
					}
					work[0].Due = tx.Now()
					if err := tx.Finish(work[0]); err != nil {
						return err
					}
				}
				return nil
			})
		})
		b.Run(bb.name+"/ask", func(b *testing.B) {
			update(b, db, func(tx approvals.Tx) error {
				for i := 0; b.Loop(); i++ {
					w := bb.work(i % bb.rows)
					w.Kind, w.Subject = "card", fmt.Sprint(i%bb.rows)
					if err := tx.Ask(w); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}

var million = flag.String("million", "", "file of the database with 1,000,000 requests for BenchmarkMillion; made if it is not there")

// BenchmarkMillion lists, creates and opens with 1,000,000 requests. It needs
// some gigabytes of disk, minutes to fill them, and -million.
func BenchmarkMillion(b *testing.B) {
	if *million == "" {
		b.Skip("needs -million FILE")
	}
	if _, err := os.Stat(*million); err != nil {
		fill(b, *million)
	}
	open := func(b *testing.B) *store.DB {
		db, err := store.Open(b.Context(), store.Config{URL: "sqlite:" + *million, Keys: ring(b, storetest.Keys)})
		if err != nil {
			b.Fatal(err)
		}
		return db
	}
	b.Run("open and close", func(b *testing.B) {
		for b.Loop() {
			if err := open(b).Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	db := open(b)
	defer db.Close()
	for _, l := range lists() {
		b.Run(l.name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				view(b, db, func(tx approvals.Tx) error {
					found, err := tx.Requests(l.filter)
					n = len(found)
					return err
				})
			}
			b.ReportMetric(float64(n), "rows")
		})
	}
	for _, callers := range []int{1, 8, 32} {
		b.Run(fmt.Sprint("create c=", callers), func(b *testing.B) {
			side(b, callers, func(i int64) error {
				r := request("api")
				return db.Update(b.Context(), func(tx approvals.Tx) error { return step(tx, &r) })
			})
		})
	}
}

func fill(b *testing.B, path string) {
	db := storetest.Open(b, path, storetest.Keys)
	r := request("api")
	for range 8 {
		r.Decisions = append(r.Decisions, approvals.Decision{Action: approvals.ActionApprove, SlackUser: "U0123456789", At: r.CreatedAt, MFA: "totp"})
	}
	if err := db.Fill(r, 1_000_000); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCreateWhileDelivering creates, by some callers at once, while 64
// workers claim and finish work as fast as they can.
func BenchmarkCreateWhileDelivering(b *testing.B) {
	for _, callers := range []int{1, 8} {
		b.Run(fmt.Sprint("c=", callers), func(b *testing.B) {
			db := storetest.New(b)
			update(b, db, func(tx approvals.Tx) error {
				for i := range 3000 {
					if err := tx.Ask(approvals.Work{Kind: "card", Subject: fmt.Sprint(i), Lane: fmt.Sprint("slack:C", i%300)}); err != nil {
						return err
					}
				}
				return nil
			})
			ctx, stop := context.WithCancel(approvals.Background(b.Context()))
			var workers sync.WaitGroup
			var delivered atomic.Int64
			for range 64 {
				workers.Go(func() {
					for deliver(ctx, db, fmt.Sprint("slack:C", delivered.Add(1)%300)) == nil {
					}
				})
			}
			took := make([]time.Duration, b.N)
			side(b, callers, func(i int64) error {
				r := request("api")
				start := time.Now()
				err := db.Update(b.Context(), func(tx approvals.Tx) error { return step(tx, &r) })
				took[i-1] = time.Since(start)
				return err
			})
			b.ReportMetric(float64(delivered.Load())/b.Elapsed().Seconds(), "delivered/s")
			stop()
			workers.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
		})
	}
}
