package wire

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// TestDoubt: after a doubt another broker is asked first, and goes on being asked while it answers.
func TestDoubt(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	c, err := Open(Config{Bootstrap: fake.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	asked := map[string]bool{}
	for range 3 {
		for range 2 {
			if _, err := c.Metadata(t.Context(), []string{"t"}); err != nil {
				t.Fatal(err)
			}
		}
		first := c.addresses()[0].String()
		if asked[first] {
			t.Errorf("%s is asked first again, after %v", first, asked)
		}
		asked[first] = true
		for range 3 { // of each of three partitions
			c.Doubt()
		}
	}
}

// TestNobodyAnswers: a question that nobody answered begins with another broker the next time, and one that was asked
// before a doubt does not remove it.
func TestNobodyAnswers(t *testing.T) {
	c, err := Open(Config{Bootstrap: []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	all := c.addresses()
	for i, step := range []struct {
		do   func()
		want int // who is asked first then
	}{
		{func() { c.asked(nil, 0) }, 1},
		{func() { c.Doubt() }, 1}, // it has not said anything yet
		{func() { c.asked(all[2], 1) }, 2},
		{func() { c.Doubt() }, 0},
		{func() { c.asked(all[2], 1) }, 0}, // was asked before the doubt
		{func() { c.asked(all[0], 2) }, 0},
	} {
		step.do()
		if got := c.addresses()[0]; got != all[step.want] {
			t.Errorf("step %d: %s is asked first, want %s", i, got, all[step.want])
		}
	}
}

// TestTopicsStayInOrder: a broker fills an answer in the order of the request, so who comes first matters.
func TestTopicsStayInOrder(t *testing.T) {
	names := []string{"z", "b", "z", "a", "b"}
	got := ""
	for _, g := range groupByTopic(len(names), func(i int) string { return names[i] }) {
		got += g.topic
		for _, i := range g.index {
			got += string(rune('0' + i))
		}
	}
	if got != "z02b14a3" {
		t.Errorf("groups %s, want z02b14a3", got)
	}
}
