package kafkabus

import (
	"context"
	"errors"

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
)

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
