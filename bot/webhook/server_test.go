package webhook_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/rack-gateway/rack-gateway-approvals/bot/webhook"
)

func TestServerLimitsConnections(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := webhook.NewServer(http.NotFoundHandler(), nil)
	if s.ReadHeaderTimeout != 5*time.Second || s.ReadTimeout != 10*time.Second || s.WriteTimeout != 15*time.Second || s.IdleTimeout != time.Minute || s.MaxHeaderBytes != 16<<10 {
		t.Errorf("got %+v; want the documented limits", s)
	}
	if webhook.LimitConnections(l).Addr() != l.Addr() {
		t.Error("the limited listener has another address")
	}
}
