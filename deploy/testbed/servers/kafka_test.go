//go:build services

package servers_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/ringfence/ringfence/deploy/testbed/servers"
)

// as is a client's way to a broker, signed in.
func as(t *testing.T, who servers.Login) *kafka.Transport {
	t.Helper()
	mechanism, err := scram.Mechanism(scram.SHA512, who.User, who.Password)
	if err != nil {
		t.Fatal(err)
	}
	transport := &kafka.Transport{SASL: mechanism, DialTimeout: 2 * time.Second, MetadataTTL: time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func client(t *testing.T, addr string, who servers.Login) *kafka.Client {
	t.Helper()
	return &kafka.Client{Addr: kafka.TCP(addr), Transport: as(t, who), Timeout: 20 * time.Second}
}

func topic(t *testing.T, admin *kafka.Client) string {
	t.Helper()
	name := "t-" + strings.ToLower(rand.Text())
	answer, err := admin.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: 1, ReplicationFactor: 1}}})
	if err := errors.Join(err, answer.Errors[name]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a leader of the new topic", func(ctx context.Context) error {
		_, err := fetch(ctx, admin, name)
		return err
	})
	return name
}

// user makes one without any right.
func user(t *testing.T, admin *kafka.Client) servers.Login {
	t.Helper()
	who := servers.Login{User: "u-" + strings.ToLower(rand.Text()), Password: rand.Text()}
	salt := []byte(rand.Text())
	salted, err := pbkdf2.Key(sha512.New, who.Password, salt, 4096, sha512.Size)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := admin.AlterUserScramCredentials(t.Context(), &kafka.AlterUserScramCredentialsRequest{Upsertions: []kafka.UserScramCredentialsUpsertion{
		{Name: who.User, Mechanism: kafka.ScramMechanismSha512, Iterations: 4096, Salt: salt, SaltedPassword: salted},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range answer.Results {
		if r.Error != nil {
			t.Fatal(r.Error)
		}
	}
	return who
}

// eventually does something until it succeeds: a broker hears of users and rights a moment after it has acknowledged them.
func eventually(t *testing.T, what string, do func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func produce(ctx context.Context, c *kafka.Client, topic string, values ...string) error {
	w := &kafka.Writer{Addr: c.Addr, Transport: c.Transport, Topic: topic, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond, MaxAttempts: 1}
	defer func() { _ = w.Close() }()
	var records []kafka.Message
	for _, v := range values {
		records = append(records, kafka.Message{Value: []byte(v)})
	}
	err := w.WriteMessages(ctx, records...)
	var each kafka.WriteErrors
	if errors.As(err, &each) {
		return errors.Join(each...)
	}
	return err
}

func fetch(ctx context.Context, c *kafka.Client, topic string) (values []string, err error) {
	answer, err := c.Fetch(ctx, &kafka.FetchRequest{Topic: topic, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 100 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	for {
		r, err := answer.Records.ReadRecord()
		if err != nil {
			return values, nil
		}
		v, err := kafka.ReadAll(r.Value)
		if err != nil {
			return nil, err
		}
		values = append(values, string(v))
	}
}

func TestKafkaRefusesAUserWithoutRightsAndServesOneWithThem(t *testing.T) {
	addr, login := servers.SharedKafka(t)
	admin := client(t, addr, login)
	name := topic(t, admin)
	who := user(t, admin)
	theirs := client(t, addr, who)
	allow := func(operation kafka.ACLOperationType) {
		t.Helper()
		answer, err := admin.CreateACLs(t.Context(), &kafka.CreateACLsRequest{ACLs: []kafka.ACLEntry{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: name, ResourcePatternType: kafka.PatternTypeLiteral,
			Principal: "User:" + who.User, Host: "*", Operation: operation, PermissionType: kafka.ACLPermissionTypeAllow,
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(answer.Errors...); err != nil {
			t.Fatal(err)
		}
	}
	// Whom the topic does not concern is not even told that it is there.
	eventually(t, "a refusal of a user without rights, and not of the password", func(ctx context.Context) error {
		if _, err := fetch(ctx, theirs, name); err == nil {
			return errors.New("a user without rights reads")
		}
		if err := produce(ctx, theirs, name, "x"); !errors.Is(err, kafka.UnknownTopicOrPartition) {
			return fmt.Errorf("who writes is answered %w", err)
		}
		return nil
	})
	allow(kafka.ACLOperationTypeRead)
	eventually(t, "a read with the right to", func(ctx context.Context) error {
		_, err := fetch(ctx, theirs, name)
		return err
	})
	eventually(t, "a refusal of who may read and writes", func(ctx context.Context) error {
		if err := produce(ctx, theirs, name, "y"); !errors.Is(err, kafka.TopicAuthorizationFailed) {
			return fmt.Errorf("who writes is answered %w", err)
		}
		return nil
	})
	allow(kafka.ACLOperationTypeWrite)
	eventually(t, "a write with the right to", func(ctx context.Context) error { return produce(ctx, theirs, name, "z") })
	eventually(t, "what was let in, and nothing else", func(ctx context.Context) error {
		values, err := fetch(ctx, admin, name)
		if err == nil && strings.Join(slices.Compact(values), " ") != "z" { // twice, if an answer came too late
			err = fmt.Errorf("in the topic is %q", values)
		}
		return err
	})
}

func TestAKilledKafkaKeepsWhatItAcknowledged(t *testing.T) {
	broker, login := servers.Kafka(t)
	admin := client(t, broker.Addr(), login)
	name := topic(t, admin)
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprint(i))
	}
	if err := produce(t.Context(), admin, name, want...); err != nil {
		t.Fatal(err)
	}
	broker.Kill()
	if err := produce(t.Context(), admin, name, "nobody there"); err == nil {
		t.Error("a killed broker acknowledges")
	}
	broker.Start()
	eventually(t, "what was acknowledged before the kill", func(ctx context.Context) error {
		got, err := fetch(ctx, admin, name)
		if err == nil && strings.Join(got, " ") != strings.Join(want, " ") {
			err = fmt.Errorf("%d records, wanted %d", len(got), len(want))
		}
		return err
	})
	eventually(t, "a write after the kill", func(ctx context.Context) error { return produce(ctx, admin, name, "more") })
	broker.Stop()
}
