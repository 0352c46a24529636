// Command hub is the middle of a small tailnet for tests: Tailscale's own test
// control server, a DERP relay and STUN, all at one address.
//
// It belongs to the module of .ci/tailnet.mod, which keeps Tailscale's modules
// out of the product's go.mod. It says "ready" when it listens, and ends with
// its standard input.
package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stun"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
)

func main() {
	address := flag.String("address", "", "IPv4 address to listen at")
	key := flag.String("key", "", "the auth key that nodes join with")
	api := flag.String("api", "", "base URL of who answers below /api/")
	flag.Parse()
	if err := run(*address, *key, *api); err != nil {
		log.Fatal(err)
	}
}

// Ports of the hub. It has a network of its own, so that they are free.
const (
	controlPort = 80
	derpPort    = 443
	stunPort    = 3478
)

func run(address, authKey, api string) error {
	// Addresses are given to this network from outside; the first line says when.
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	if err := serveSTUN(address); err != nil {
		return err
	}
	if err := serveDERP(address); err != nil {
		return err
	}
	base, err := url.Parse(api)
	if err != nil {
		return err
	}
	control := &testcontrol.Server{
		Logf:             func(string, ...any) {},
		DERPMap:          derpMap(address),
		RequireAuthKey:   authKey,
		ExplicitBaseURL:  "http://" + address,
		MagicDNSDomain:   "tailnet.test",
		TagOwners:        map[string][]string{}, // not nil: tags are kept
		AllNodesSameUser: true,
		AllOnline:        true,
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", httputil.NewSingleHostReverseProxy(base))
	mux.Handle("/", control)
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, controlPort))
	if err != nil {
		return err
	}
	go func() { log.Fatal(http.Serve(listener, mux)) }()
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func derpMap(address string) *tailcfg.DERPMap {
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: {
		RegionID: 1, RegionCode: "test", Nodes: []*tailcfg.DERPNode{{
			Name: "hub", RegionID: 1, HostName: address, IPv4: address, IPv6: "none",
			DERPPort: derpPort, STUNPort: stunPort, InsecureForTests: true,
		}},
	}}}
}

func serveDERP(address string) error {
	relay := derpserver.New(key.NewNode(), func(string, ...any) {})
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, derpPort))
	if err != nil {
		return err
	}
	server := httptest.NewUnstartedServer(derpserver.Handler(relay))
	server.Listener.Close()
	server.Listener = listener
	// The relay takes the connection over, which HTTP/2 does not allow.
	server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	server.StartTLS()
	return nil
}

func serveSTUN(address string) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(fmt.Sprintf("%s:%d", address, stunPort))))
	if err != nil {
		return err
	}
	go func() {
		packet := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(packet)
			if err != nil {
				return
			}
			if id, err := stun.ParseBindingRequest(packet[:n]); err == nil {
				from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
				// A client that gets no answer asks again.
				_, _ = conn.WriteToUDPAddrPort(stun.Response(id, from), from)
			}
		}
	}()
	return nil
}
