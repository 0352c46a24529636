package parsing_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/approvals"
)

func FuzzParseToken(f *testing.F) {
	f.Add("rgw_" + strings.Repeat("A", 42) + "AAAAAAA")
	f.Add("rgw_")
	f.Add("")
	f.Add("rgw_" + strings.Repeat("A", 49))
	f.Fuzz(func(t *testing.T, s string) {
		id, hash, ok := approvals.ParseToken(s)
		if !ok && (id != "" || hash != "") {
			t.Error("a text that is no token has an id or a hash")
		}
		if ok && (!strings.HasPrefix(s, "rgw_"+id) || len(id) != 10 || hash != fmt.Sprintf("%x", sha256.Sum256([]byte(s)))) {
			t.Error("id or hash do not fit the text")
		}
	})
}

func FuzzParseLife(f *testing.F) {
	for _, s := range []string{"90d", "1s", "", "d", "9223372036854775807s", "1000000000d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := approvals.ParseLife(s)
		if err == nil && (d < time.Second || d > 3650*24*time.Hour) || err != nil && d != 0 {
			t.Errorf("ParseLife(%q): got %v, %v", s, d, err)
		}
	})
}
