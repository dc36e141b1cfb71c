package auditverify_test

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/ringfence/ringfence/adapters/auditverify"
	"github.com/ringfence/ringfence/core/audit"
	"github.com/ringfence/ringfence/core/ident"
	"github.com/ringfence/ringfence/testkit/measure"
)

// BenchmarkMain is audit-verify on a bundle of a million entries, with a checkpoint for each ten thousand.
func BenchmarkMain(b *testing.B) {
	const entries = 1_000_000
	bundle, policy := written(b, entries)
	costs := measure.InTurn(b, 5, time.Second, measure.Way{Name: "bundle", Do: func(n int) {
		for range n {
			var out, told strings.Builder
			if code := auditverify.Main([]string{bundle, "--policy", policy}, nil, &out, &told); code != 0 || !strings.HasPrefix(out.String(), fmt.Sprintf("good: %d entries", entries)) {
				b.Fatal(code, out.String(), told.String())
			}
		}
	}})
	measure.Report(b, costs)
	b.ReportMetric(costs[0].Median()/1e9, "s/bundle")
}

// written is a bundle of a log that grew to n entries, and its policy file.
func written(b testing.TB, n uint64) (bundle, policy string) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, "bench")
	must(err)
	signer, err := note.NewSigner(skey)
	must(err)
	tenant := ident.Tenant{7}
	origin := audit.Origin("bench", tenant)
	var head audit.Head
	leaves, hashes := make([][]byte, 0, n), make([]audit.Hash, 0, 2*n)
	var points []audit.StoredCheckpoint
	began := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	for head.Size < n {
		id := ident.Entry{1}
		binary.BigEndian.PutUint64(id[8:], head.Size+1)
		e := audit.Event{ID: id, Action: audit.DeviceUpdated, Target: audit.Target{Kind: "device", ID: fmt.Sprint("dev_", head.Size)}, Outcome: audit.OK,
			Changes: []audit.Change{audit.Set("name", "pump", "pumps"), audit.Set("state", "active", "disabled")}}
		e.Changes[0].Old.Nonce, e.Changes[0].New.Nonce = [16]byte(id), [16]byte(id)
		out, err := audit.Append(head, audit.Context{Tenant: tenant, ActorKind: "human", Actor: "usr_06h0rkpgn1ta325f7o7su82noc", AuthzRev: 3, RequestID: "req_06h0rkpgn1ta325f7o7su82noc"}, []audit.Event{e}, began.Add(time.Duration(head.Size)*time.Second))
		must(err)
		head, leaves, hashes = out.Head, append(leaves, out.Entries[0].Leaf), append(hashes, out.Hashes...)
		if head.Size%10_000 == 0 || head.Size == n {
			signed, err := audit.Checkpoint{Origin: origin, Size: head.Size, Root: head.Root()}.Sign(signer)
			must(err)
			points = append(points, audit.StoredCheckpoint{Size: head.Size, Note: signed})
		}
	}
	bundle, policy = filepath.Join(b.TempDir(), "audit.tar"), filepath.Join(b.TempDir(), "policy.txt")
	must(os.WriteFile(policy, []byte(audit.PolicyFile(origin, vkey)), 0o600))
	f, err := os.Create(bundle)
	must(err)
	to := bufio.NewWriter(f)
	must(pack(to, points, leaves, hashes))
	must(errors.Join(to.Flush(), f.Close()))
	return bundle, policy
}

func pack(to io.Writer, points []audit.StoredCheckpoint, leaves [][]byte, hashes []audit.Hash) error {
	w := audit.NewBundleWriter(to)
	for _, p := range points {
		if err := w.Checkpoint(p); err != nil {
			return err
		}
	}
	for {
		from, to := w.ChunkRange(uint64(len(leaves)))
		if from >= to {
			return w.Close()
		}
		first, end := audit.HashRange(from, to)
		if err := w.Chunk(leaves[from:to], hashes[first:end]); err != nil {
			return err
		}
	}
}
