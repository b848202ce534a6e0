package zookeeper

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// maxName bounds a group, a topic or a part of the chroot, in bytes; Kafka's own limit for topics is 249.
const maxName = 249

// topicName is what Kafka accepts.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

// CheckName refuses a name of something that cannot be one node of a path by ZooKeeper's rules; what says what it names.
func CheckName(what, name string) error {
	reason := ""
	switch {
	case name == "":
		reason = "is empty"
	case len(name) > maxName:
		reason = fmt.Sprintf("is longer than %d bytes", maxName)
	case name == "." || name == "..":
		reason = "would be a relative path"
	case !utf8.ValidString(name):
		reason = "is not UTF-8"
	}
	for _, r := range name {
		if reason == "" && (r == '/' || !allowed(r)) {
			reason = fmt.Sprintf("holds %q, which cannot stand in the name of a node", r)
		}
	}
	if reason != "" {
		return fmt.Errorf("%s %q %s", what, name, reason)
	}
	return nil
}

// allowed excludes what ZooKeeper refuses: control characters, private use and specials.
func allowed(r rune) bool {
	return r > 0x1f && (r < 0x7f || r > 0x9f) && (r < 0xf000 || r > 0xf8ff) && (r < 0xfff0 || r > 0xffff)
}

func validatePartition(p Partition) error {
	if err := CheckName("topic", p.Topic); err != nil {
		return err
	}
	if !topicName.MatchString(p.Topic) {
		return fmt.Errorf("topic %q is no name of Kafka: letters, digits, '.', '_' and '-'", p.Topic)
	}
	if p.Partition < 0 {
		return fmt.Errorf("topic %s: partition %d is negative", p.Topic, p.Partition)
	}
	return nil
}

// consumers is the node that all groups share.
func (c *Client) consumers() string { return c.cfg.Chroot + "/consumers" }

// offsetPath is the node that holds the offset of a partition. Its names are validated.
func (c *Client) offsetPath(group string, p Partition) string {
	return path.Join(c.consumers(), group, "offsets", p.Topic, strconv.Itoa(int(p.Partition)))
}
