package gatewayd

import (
	"os"
	"os/user"
	"strconv"
	"strings"
)

// operator is who runs this command, as this machine says: "ana@build-1", or
// "ana as root@build-1" behind sudo. The log takes it as a claim.
func (c *program) operator() string {
	name := strconv.Itoa(os.Getuid()) // a container may know no name
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	for _, kv := range c.env {
		if before, ok := strings.CutPrefix(kv, "SUDO_USER="); ok && before != "" && before != name {
			name = before + " as " + name
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return name + "@" + host
}
