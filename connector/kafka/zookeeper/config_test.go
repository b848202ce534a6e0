package zookeeper

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseConnect(t *testing.T) {
	cases := []struct {
		connect string
		servers []string
		chroot  string
		fault   string // part of the error; empty: none
	}{
		{"h1:2181,h2:2182/kafka", []string{"h1:2181", "h2:2182"}, "/kafka", ""},
		{"h1", []string{"h1:2181"}, "", ""},
		{" h1 , h2:99 /a/b", []string{"h1:2181", "h2:99"}, "/a/b", ""},
		{"h1:2181/", []string{"h1:2181"}, "", ""},
		{"[::1]:2181,[fe80::1]/k", []string{"[::1]:2181", "[fe80::1]:2181"}, "/k", ""},
		{"10.0.0.1:65535", []string{"10.0.0.1:65535"}, "", ""},
		{"", nil, "", "no valid host"},
		{"/kafka", nil, "", "no valid host"},
		{"h1,,h2", nil, "", "no valid host"},
		{"h1:0", nil, "", `port "0"`},
		{"h1:65536", nil, "", `port "65536"`},
		{"h1:zk", nil, "", `port "zk"`},
		{"h1:", nil, "", `port ""`},
		{"::1", nil, "", "too many colons"},
		{"zookeeper://h1:2181", nil, "", "zookeeper:"},
		{"h1 h2", nil, "", "no valid host"},
		{"h1/a//b", nil, "", "is empty"},
		{"h1/a/", nil, "", "is empty"},
		{"h1/a/../b", nil, "", "relative"},
		{"h1/a,h2/a", nil, "", "stands once, behind the last server"},
	}
	for _, c := range cases {
		t.Run(c.connect, func(t *testing.T) {
			servers, chroot, err := ParseConnect(c.connect)
			switch {
			case c.fault == "" && (err != nil || !slices.Equal(servers, c.servers) || chroot != c.chroot):
				t.Errorf("%q, %q, %v; want %q, %q", servers, chroot, err, c.servers, c.chroot)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), "zookeeper.connect")):
				t.Errorf("error %v, want one of zookeeper.connect with %q", err, c.fault)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	servers := []string{"h:1"}
	cases := []struct {
		name, fault string // fault: part of the error; empty: none
		cfg         Config
	}{
		{"the least", "", Config{Servers: servers}},
		{"everything", "", Config{Servers: servers, Chroot: "/k", SessionTimeout: time.Second, ConnectionTimeout: time.Second, CallTimeout: time.Second, Auth: "u:p:q", ACL: ACLCreatorAll}},
		{"no servers", "name them in zookeeper.connect", Config{}},
		{"too many servers", "65 servers", Config{Servers: slices.Repeat(servers, 65)}},
		{"server without a port", "missing port", Config{Servers: []string{"h"}}},
		{"relative chroot", "does not begin with /", Config{Servers: servers, Chroot: "k"}},
		{"chroot that ends with a slash", "is empty", Config{Servers: servers, Chroot: "/k/"}},
		{"negative timeout", "call timeout -1s", Config{Servers: servers, CallTimeout: -time.Second}},
		{"timeout of nanoseconds", "session timeout 6µs", Config{Servers: servers, SessionTimeout: 6000}},
		{"timeout of weeks", "connection timeout", Config{Servers: servers, ConnectionTimeout: 1000 * time.Hour}},
		{"credentials without a password", "not USER:PASSWORD", Config{Servers: servers, Auth: "hunter2"}},
		{"credentials without a user", "not USER:PASSWORD", Config{Servers: servers, Auth: ":hunter2"}},
		{"creator without a user", "without a user", Config{Servers: servers, ACL: ACLCreatorAll}},
		{"unknown acl", `acl "world"`, Config{Servers: servers, ACL: "world"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			client, err := New(c.cfg)
			switch {
			case c.fault == "" && err != nil:
				t.Error(err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), "hunter2")):
				t.Errorf("error %v, want one with %q and without a secret", err, c.fault)
			case err == nil:
				if err := client.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	cfg, err := Config{Servers: []string{"h:1"}}.withDefaults()
	if err != nil || cfg.SessionTimeout != DefaultSessionTimeout || cfg.ConnectionTimeout != DefaultConnectionTimeout ||
		cfg.CallTimeout != DefaultCallTimeout || cfg.ACL != ACLOpen || cfg.Logger == nil {
		t.Errorf("%+v, %v", cfg, err)
	}
}
