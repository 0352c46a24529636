package storetest

import (
	"errors"
	"os"
	"path/filepath"
	"time"
)

// RateF is F, the measure that rates of commits are told beside: how often in a
// second 24 KiB can be overwritten in place with fsync, as a commit does with the
// write-ahead log. It is measured with a file in dir, which is removed.
func RateF(dir string) (perSecond float64, err error) {
	name := filepath.Join(dir, "f")
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	const size, places = 24 << 10, 170 // 4 MB
	data := make([]byte, size)
	write := func(n int) error {
		for i := range n {
			if _, err := f.WriteAt(data, int64(i%places)*size); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(places); err != nil {
		return 0, err
	}
	const n = 1000
	start := time.Now()
	if err := write(n); err != nil {
		return 0, err
	}
	return n / time.Since(start).Seconds(), nil
}
