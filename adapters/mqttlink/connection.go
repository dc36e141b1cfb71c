package mqttlink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/core/secret"
	"github.com/ringfence/ringfence/core/source"
	"github.com/ringfence/ringfence/core/uplink"
)

// Connection is one way to one broker. Name, URL and Filters are needed, the rest has defaults.
type Connection struct {
	Name string // a word of ours, also in client ids and metrics
	URL  string // mqtt://host:port or mqtts://host:port

	CAFile            string // PEM: who may have signed the broker's certificate; empty: whom the system trusts
	CertFile, KeyFile string // PEM: our certificate, for brokers that want one
	Plaintext         bool   // allows mqtt:// to another machine, for networks that encrypt by themselves
	Anonymous         bool   // allows a broker on another machine that does not ask who we are
	Username          string
	Password          secret.Text
	PasswordFile      string // holds the password; read again at every connection

	Filters []string // each an MQTT filter, or a template of core/uplink
	// Group is of the shared subscription: workers of one group split the stream; empty: each gets all of it. Mosquitto 2.0 forgets
	// shared subscriptions when it is restarted, until a member is back: what is published in between it acknowledges and drops.
	Group    string
	Presence bool // members of the group tell each other that they are there, at rf/members/{group}/{client id}

	SessionExpiry    time.Duration // how long the broker keeps what a member has not taken; 7 days
	KeepAlive        time.Duration // 10 s
	ReceiveMaximum   int           // what the broker is asked to keep to; 1,000
	MaxInFlight      int           // messages read and not acknowledged, whatever the broker keeps to; 1,000
	MaxInFlightBytes int           // and their bytes; 32 MiB
	MaxPacket        int           // a longer packet is cut while it is read; 512 KiB
	AskMaxPacket     bool          // also asks the broker for no longer ones: it drops them, and nobody learns of it

	// What follows is for whoever gives Take: nothing here looks at it.
	Format     source.Format
	TenantFrom TenantFrom
	Tenant     ident.Tenant // of fixed
	Source     ident.Source // of fixed
}

// TenantFrom is how a connection's messages tell whose they are.
type TenantFrom string

// The ways.
const (
	Fixed       TenantFrom = "fixed"       // all of one tenant's one source
	Application TenantFrom = "application" // by the application id, which the platform has mapped
	Checked     TenantFrom = "checked"     // by the topic, which the broker's gate has checked: rf/{tenant}/{source}/up
)

// CheckedFilter is what direct publishers may publish to.
const CheckedFilter = "rf/+/+/up/#"

const (
	maxFilters  = 16
	maxText     = 256
	maxPath     = 1_024
	maxSession  = 90 * 24 * time.Hour
	maxInFlight = 50_000
	maxPacket   = 16 << 20
	wantName    = "want 1 to 32 of a-z 0-9 and -, the hyphens within"
)

func isName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (c Connection) defaults() Connection {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&c.ReceiveMaximum, 1_000)
	def(&c.MaxInFlight, 1_000)
	def(&c.MaxInFlightBytes, 32<<20)
	def(&c.MaxPacket, 512<<10)
	if c.SessionExpiry == 0 {
		c.SessionExpiry = 7 * 24 * time.Hour
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 10 * time.Second
	}
	return c
}

// Check answers all that is wrong with a connection, without looking at the files that it names.
func (c Connection) Check() []error {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !isName(c.Name) {
		bad("name: %s", wantName)
	}
	if err := c.checkURL(); err != nil {
		wrong = append(wrong, err)
	}
	if host, _ := c.address(); host != "" && !loopback(host) && c.Username == "" && c.CertFile == "" && !c.Anonymous {
		bad("username: at a broker that does not ask who we are anybody may publish in a device's name; want username and password_file, or cert_file and key_file, or anonymous: true where nobody else reaches it")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		bad("cert_file and key_file: want both or neither")
	}
	for _, path := range []string{c.CAFile, c.CertFile, c.KeyFile, c.PasswordFile} {
		if len(path) > maxPath {
			bad("a path is longer than %d bytes", maxPath)
		}
	}
	if len(c.Username) > maxText || strings.ContainsRune(c.Username, 0) {
		bad("username: want at most %d bytes, without NUL", maxText)
	}
	if c.Username == "" && (!c.Password.IsZero() || c.PasswordFile != "") {
		bad("username: a password needs one")
	}
	if len(c.Filters) == 0 || len(c.Filters) > maxFilters {
		bad("filters: want 1 to %d", maxFilters)
	}
	for i, f := range c.Filters {
		if _, err := uplink.ParseTemplate(f); err != nil {
			bad("filters, number %d: %w", i+1, err)
		} else if strings.HasPrefix(f, "$") {
			bad("filters, number %d: want one without $ before it; a group makes it shared", i+1)
		}
	}
	if c.Group != "" && !isName(c.Group) {
		bad("group: %s", wantName)
	}
	if c.Presence && c.Group == "" {
		bad("presence: needs a group, whose members it is about")
	}
	if c.SessionExpiry < 0 || c.SessionExpiry > maxSession {
		bad("session_days: want 1 to %d", maxSession/(24*time.Hour))
	}
	if c.KeepAlive != 0 && (c.KeepAlive < time.Second || c.KeepAlive > time.Hour) {
		bad("the keep-alive: want a second to an hour")
	}
	within := func(what string, n, most int) {
		if n < 0 || n > most {
			bad("%s: want 1 to %d", what, most)
		}
	}
	within("the receive maximum", c.ReceiveMaximum, 65_535)
	within("max_in_flight", c.MaxInFlight, maxInFlight)
	within("max_in_flight_bytes", c.MaxInFlightBytes, 1<<30)
	if c.MaxPacket != 0 && (c.MaxPacket < uplink.MaxBody+2*uplink.MaxTopic || c.MaxPacket > maxPacket) {
		bad("max_packet: want %d to %d", uplink.MaxBody+2*uplink.MaxTopic, maxPacket)
	}
	return wrong
}

func (c Connection) checkURL() error {
	const want = "url: want mqtts://host:port or mqtt://host:port"
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || len(c.URL) > maxText || u.Host == "" || u.Hostname() == "":
		return errors.New(want)
	case u.User != nil:
		return errors.New("url: it has a user or password in it; want username and password_file")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return errors.New(want + ", without anything behind it")
	case u.Scheme == "mqtts":
	case u.Scheme != "mqtt":
		return errors.New(want)
	case c.CAFile != "" || c.CertFile != "":
		return errors.New("url: mqtt:// has no TLS, so that ca_file and cert_file say nothing; want mqtts://")
	case !loopback(u.Hostname()) && !c.Plaintext:
		return errors.New("url: mqtt:// to another machine sends passwords and payloads for all to read; want mqtts://, or plaintext: true on a network that encrypts by itself")
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// address is where the broker listens.
func (c Connection) address() (host, hostPort string) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"mqtt": "1883", "mqtts": "8883"}[u.Scheme]
	}
	host = u.Hostname()
	if strings.Contains(host, ":") {
		return host, "[" + host + "]:" + port
	}
	return host, host + ":" + port
}

func (c Connection) secured() bool { return strings.HasPrefix(c.URL, "mqtts:") }

// filters are what is subscribed to.
func (c Connection) filters() []string {
	out := make([]string, len(c.Filters))
	for i, f := range c.Filters {
		if t, err := uplink.ParseTemplate(f); err == nil {
			f = t.Filter()
		}
		if c.Group != "" {
			f = "$share/" + c.Group + "/" + f
		}
		out[i] = f
	}
	return out
}

// files looks whether the files can be used. They are read again at every connection, so that a renewed certificate counts.
func (c Connection) files() error {
	_, err := c.tls()
	if _, wrong := c.password(); wrong != nil {
		err = errors.Join(err, wrong)
	}
	return err
}

// tls is how the broker is known, and how it knows us; nil for mqtt://.
func (c Connection) tls() (*tls.Config, error) {
	if !c.secured() {
		return nil, nil
	}
	host, _ := c.address()
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca_file: there is no certificate in it; want PEM")
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

func (c Connection) password() (secret.Text, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	raw, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return secret.Text{}, fmt.Errorf("password_file: %w", err)
	}
	text := strings.TrimRight(string(raw), "\r\n")
	if text == "" || len(text) > 1<<10 {
		return secret.Text{}, errors.New("password_file: want one line of 1 to 1,024 bytes")
	}
	return secret.New(text), nil
}
