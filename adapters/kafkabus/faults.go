package kafkabus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/ringfence/ringfence/core/fault"
	"github.com/ringfence/ringfence/ports/bus"
)

// What an operator must mend.
var (
	errDenied     = fault.New(fault.Denied, "bus_denied", "The bus's user may not do this. `ringfence kafka topics --apply` sets what each binary's user may.")
	errCredential = fault.New(fault.Unauthenticated, "bus_credential", "Kafka does not know the user or its password. Mend them in the configuration, or make the user.")
	errPlain      = fault.New(fault.Denied, "kafka_plain", "A Kafka broker that is not this machine would be spoken to in plain text. Configure TLS.")

	// These may pass by themselves, as a broker is given another certificate: they are tried again.
	errAuthority   = fault.New(fault.Unavailable, "kafka_authority", "Kafka's certificate is not vouched for by any that we trust, or is out of its time. Put that of its authority into the file that kafka_ca_file names, or give the broker another.")
	errName        = fault.New(fault.Unavailable, "kafka_name", "Kafka's certificate is for another name than the broker is reached by. Name it in kafka_brokers, and in the broker's advertised.listeners, as its certificate does.")
	errCertificate = fault.New(fault.Unavailable, "kafka_certificate", "Kafka refused our TLS: it wants a client certificate, or not this one. Set kafka_cert_file and kafka_key_file to one that the broker's truststore vouches for and that has not ended.")
	errSpeaksPlain = fault.New(fault.Unavailable, "kafka_speaks_plain", "The Kafka broker closed the connection instead of speaking TLS. If it is up, name its SASL_SSL or SSL listener in kafka_brokers.")
	errSpeaksTLS   = fault.New(fault.Unavailable, "kafka_speaks_tls", "The Kafka broker speaks TLS, and we speak plain text. Set kafka_ca_file to the certificate of its authority.")
)

// alerted is an error that the other side of TLS told of, as crypto/tls says it.
func alerted(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// handshaken is the error of a handshake that failed, or that a broker broke off afterwards.
func handshaken(err error) error {
	var unverified *tls.CertificateVerificationError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	as := func(f *fault.Error) error { return fault.Wrap(err, f.Kind, f.Code, "%s", f.Message) }
	switch {
	case errors.As(err, &name):
		return as(errName)
	case errors.As(err, &unverified):
		return as(errAuthority)
	case alerted(err):
		return as(errCertificate)
	case errors.As(err, &record), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return as(errSpeaksPlain)
	}
	return err
}

func away(cause error) error {
	return fault.Wrap(cause, bus.ErrAway.Kind, bus.ErrAway.Code, "%s", bus.ErrAway.Message)
}

// told is the port's error for one of Kafka's or of the network.
func told(err error) error {
	var ours *fault.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return ours
	case isMissing(err):
		return bus.ErrTopic
	case isDenied(err):
		return errDenied
	case errors.Is(err, kafka.SASLAuthenticationFailed), errors.Is(err, kafka.UnsupportedSASLMechanism):
		return errCredential
	}
	return away(err)
}

func isMissing(err error) bool {
	return errors.Is(err, kafka.UnknownTopicOrPartition) || errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition) || errors.Is(err, kafka.InvalidTopic)
}

func isDenied(err error) bool {
	return errors.Is(err, kafka.TopicAuthorizationFailed) || errors.Is(err, kafka.GroupAuthorizationFailed) || errors.Is(err, kafka.ClusterAuthorizationFailed)
}

// settled reports whether asking again gives the same answer.
func settled(err error) bool {
	return isDenied(err) || errors.Is(err, kafka.SASLAuthenticationFailed) || errors.Is(err, kafka.UnsupportedSASLMechanism) ||
		errors.Is(err, errPlain) || errors.Is(err, errActive) || errors.Is(err, errDenied) || errors.Is(err, bus.ErrTopic) || errors.Is(err, bus.ErrClosed) || errors.Is(err, context.Canceled)
}

// asked runs a question until it is answered, a few times at most: connections that stood idle break at their next use, and
// leaders move.
func (b *Bus) asked(ctx context.Context, question func(context.Context) error) error {
	var err error
	for n := range tries {
		if b.ended() {
			return bus.ErrClosed
		}
		one, cancel := context.WithTimeout(ctx, wait)
		err = question(one)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || settled(err) || !b.pause(ctx, n) {
			break
		}
	}
	if b.ended() {
		return bus.ErrClosed
	}
	if ctx.Err() != nil && !settled(err) {
		return away(ctx.Err())
	}
	return told(err)
}
