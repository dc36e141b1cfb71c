package mqttlink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
)

// refusal is a reason code of the broker's.
type refusal struct {
	to   string
	code byte
}

func (r refusal) Error() string {
	return fmt.Sprintf("the broker refused to %s with code 0x%02x", r.to, r.code)
}

// Code is the number, for the log.
func (r refusal) Code() int { return int(r.code) }

// explain says what to do about an error, in our words alone: a broker's reason may hold anything.
func explain(err error) string {
	var (
		said    *autopaho.ConnackError
		refused refusal
		ca      x509.UnknownAuthorityError
		host    x509.HostnameError
		cert    x509.CertificateInvalidError
		record  tls.RecordHeaderError
		op      *net.OpError
		dns     *net.DNSError
		path    *os.PathError
	)
	switch {
	case errors.As(err, &said):
		return refusals(refusal{"connect", said.ReasonCode})
	case errors.As(err, &refused):
		return refusals(refused)
	case errors.As(err, &path):
		return "A file that the connection names cannot be read. Look at ca_file, cert_file, key_file and password_file."
	case errors.As(err, &ca):
		return "The broker's certificate is signed by nobody who is trusted here. Set ca_file to the CA that signed it."
	case errors.As(err, &host):
		return "The broker's certificate is for another host. Connect to a name that is in it."
	case errors.As(err, &cert):
		return "The broker's certificate is not valid now, or not for a server. Renew it."
	case errors.As(err, &record):
		return "The broker speaks no TLS at this port. Set the port of its TLS listener."
	case errors.As(err, &op) && op.Op == "remote error":
		return "The broker ended TLS: it wants a client certificate, or not this one. Set cert_file and key_file to one that it knows."
	case errors.As(err, &dns):
		return "The broker's name is not known. Look at url."
	case errors.As(err, &op) && op.Op == "dial":
		return "The broker cannot be reached. Look whether it runs, and at url."
	}
	return "The broker does not answer as one that speaks MQTT 5. Look whether it runs, at url, at cert_file and key_file if it wants a certificate, and at its log."
}

func refusals(r refusal) string {
	switch r.code {
	case 0:
		if r.to == "subscribe" {
			return "The broker gives messages of these filters at most once. Allow QoS 1."
		}
		return "The broker ended the connection."
	case packets.ConnackUnsupportedProtocolVersion:
		return "The broker speaks no MQTT 5. Use one that does."
	case packets.ConnackInvalidClientID:
		return "The broker does not want this client id. Allow it, or name the workers otherwise."
	case packets.ConnackBadUsernameOrPassword:
		return "The broker does not know this user and password. Look at username and password_file."
	case packets.ConnackNotAuthorized:
		if r.to == "subscribe" {
			return "The broker does not let this user subscribe. Allow the filters, with $share and without."
		}
		return "The broker does not let this user in. Look at username and password_file, and whether it may publish to rf/members/# where presence is on."
	case packets.DisconnectSessionTakenOver:
		return "Another client came with the same client id. Give each worker an ordinal of its own."
	case packets.DisconnectServerShuttingDown, packets.ConnackServerUnavailable, packets.ConnackServerBusy:
		return "The broker is busy or shutting down. It is asked again."
	case packets.DisconnectSharedSubscriptionNotSupported:
		return "The broker has no shared subscriptions. Leave group empty, with one worker, or use another broker."
	case packets.DisconnectQuotaExceeded:
		return "The broker says that a quota is used up. Raise it there."
	}
	return fmt.Sprintf("The broker refused to %s with code 0x%02x. Look at its log.", r.to, r.code)
}
