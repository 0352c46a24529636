// Package soak wears the real daemon down, as a process, on loopback: it is killed
// around its calls, Slack and CircleCI are taken away from it, and its pace is
// measured. What people, CI and CircleCI see is judged from outside (see package
// proof). The machines are tests; without flags each runs for half a minute or so.
// A flag of one machine makes it run as told, and leaves the others out:
//
//	go test ./cmd/internal/soak -v -timeout 0 -kills 100
//	go test ./cmd/internal/soak -v -timeout 0 -outage 10m -window 5m
//	go test ./cmd/internal/soak -v -timeout 0 -load-for 20s -load-rate 50
//
// Say -v to see how far it is, and -timeout 0, or go test ends it after ten minutes.
//
// TestKills plays many stories at once and kills the daemon (SIGKILL) around each of
// its calls, while clicks are worked on, while it starts and at random moments:
//
//	-kills N         how often it is killed
//	-lanes N         how many stories are played side by side (24)
//
// TestKillsOfNodes does the same to two daemons on one PostgreSQL database (see
// RGW_TEST_POSTGRES_URL), behind one balancer: one of them is killed, or stands still
// for 15 seconds while all others wait for it, or both lose their connections to the
// database:
//
//	-node-kills N    how often one is killed
//	-node-stops N    how often one stands still (1)
//	-backend-kills D how often one connection to the database is ended; without it,
//	                 all of them are before every eighth kill or so
//	-lanes N         as above
//
// TestTakeover files five requests a second with the real client's retries, while one
// of two daemons is killed, then while one is stopped, and measures calls and cards:
//
//	-takeovers N     how often; only with this flag
//
// The tests of failover start PostgreSQL servers of their own, which must be installed:
// one dies, and its synchronous or asynchronous standby takes its place, or the session
// that commits a click is killed:
//
//	-failovers       only with this flag
//
// TestDistance plays decisions with a database server that is 2 ms away, and counts the
// round trips of the transactions that write:
//
//	-distance        only with this flag
//
// TestTLS opens a database on a PostgreSQL server of its own, with TLS and without.
//
// TestClocks builds a daemon whose wall clock is off, which takes some minutes, and has
// it work on one database with a daemon whose clock is right:
//
//	-clocks          only with this flag
//
// TestVersions builds a newer version with one migration more, which takes the place
// of two older daemons.
//
// TestOutages takes Slack, CircleCI and both away, with a SIGKILL in the middle;
// half of the time they answer 503, half of the time they take no connections. It
// also lets CircleCI refuse the token, and with -outage 5m or more somebody open a
// gate after its request expired:
//
//	-outage D        how long a service is away; all of it takes a few minutes more
//	-window D        how long an approval stays usable (half of the outage, whole minutes)
//	-requests N      requests that are filed while Slack is away (one every five seconds)
//
// TestLoad measures creates per second, the time until all cards and the first lines
// of their threads stand, to a modal, to an answer and to the gate, memory, and starts
// with a full database. F, which it tells first and last, says how fast the disk is. It
// judges nothing, and the simulated services and callers work on the same processors:
//
//	-load-for D      how long requests are filed at a fixed rate
//	-load-rate N     how many a second (100)
//	-load-pending N  requests that are pending before (1000)
//	-load-decided N  requests that are approved one by one, before and after (30)
//	-load-apps N     apps, each with a channel: Slack takes one message a second and channel (300)
//	-load-drain D    how long to wait for all cards and first lines after that (5m)
//	-load-daemon F   the daemon to measure, such as a static one; a test program is larger
//	-load-history F  the database that the daemon starts with and changes. What makes
//	                 one of a million requests, 9 GB in a quarter of an hour, is
//	                 go test ./approvals -run TestReportOfAQuarter -timeout 0 -quarter.keep DIR -quarter.times 6711
//	-load-idle D     how long the daemon is watched while it has nothing to do (0)
//
// For all of them:
//
//	-seed N          what chooses stories, kills and places (random; each run tells its own)
//	-dir DIR         keep databases and logs here
package soak
