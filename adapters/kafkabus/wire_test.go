package kafkabus

import (
	"encoding/binary"
	"testing"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// metadata is an answer as another library writes it.
func metadata() []byte {
	r := kmsg.NewPtrMetadataResponse()
	r.Version = metadataVersion
	broker := kmsg.NewMetadataResponseBroker()
	broker.NodeID, broker.Host, broker.Port, broker.Rack = 1, "kafka", 9092, kmsg.StringPtr("a")
	r.Brokers = append(r.Brokers, broker)
	r.ClusterID = kmsg.StringPtr("cluster")
	for i, name := range []string{"rf.uplinks", "rf.gone"} {
		t := kmsg.NewMetadataResponseTopic()
		t.Topic = kmsg.StringPtr(name)
		t.TopicID = [16]byte{byte(i + 1)}
		if i == 1 {
			t.ErrorCode = 3
		} else {
			for p := range int32(3) {
				part := kmsg.NewMetadataResponseTopicPartition()
				part.Partition, part.Leader, part.Replicas, part.ISR = p, 1, []int32{1, 2}, []int32{1}
				t.Partitions = append(t.Partitions, part)
			}
		}
		r.Topics = append(r.Topics, t)
	}
	return r.AppendTo(nil)
}

func TestAnswersOfAnotherLibraryAreRead(t *testing.T) {
	got, err := answered(metadata())
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	if d := got["rf.uplinks"]; d.partitions != 3 || d.replicas != 2 || d.code != 0 || d.id != "01000000000000000000000000000000" {
		t.Errorf("%+v", d)
	}
	if d := got["rf.gone"]; d.partitions != 0 || d.code != kafka.UnknownTopicOrPartition {
		t.Errorf("%+v", d)
	}
	q := kmsg.NewPtrMetadataRequest()
	q.Version = metadataVersion
	if err := q.ReadFrom(question([]string{"a", "rf.uplinks"})); err != nil || len(q.Topics) != 2 || *q.Topics[1].Topic != "rf.uplinks" || q.AllowAutoTopicCreation {
		t.Errorf("%+v, %v", q, err)
	}
}

// Whatever a broker answers costs no more memory than it sent, and cannot be read halfway.
func FuzzAnswer(f *testing.F) {
	whole := metadata()
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Add(append(binary.AppendUvarint([]byte{0, 0, 0, 0}, 1<<40), whole...))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := answered(text)
		if err != nil && got != nil {
			t.Fatal("half an answer")
		}
		if len(got) > len(text)/24 {
			t.Fatalf("%d topics in %d bytes", len(got), len(text))
		}
	})
}

func TestPartitionsAreThoseOfOtherClients(t *testing.T) {
	for _, key := range []string{"", "a", "tenant/device", "ключ", "\xff\xfe"} {
		for _, n := range []int{1, 2, 7, 12, 100} {
			all := make([]int, n)
			for i := range all {
				all[i] = i
			}
			if want := (&kafka.Hash{}).Balance(kafka.Message{Key: []byte(key)}, all...); partitionOf(key, n) != want {
				t.Errorf("%q of %d: %d, want %d", key, n, partitionOf(key, n), want)
			}
		}
	}
}
