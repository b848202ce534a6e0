package kafka

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

const (
	referenceHint = "write ${env:NAME} or ${file:PATH} and put the value there"
	// maxSecretBytes bounds what is read of a file.
	maxSecretBytes = 64 << 10
)

var reference = regexp.MustCompile(`^\$\{(env:[A-Za-z_][A-Za-z0-9_]*|file:[^{}\x00]+)\}$`)

func isReference(value string) bool { return reference.MatchString(value) }

// resolveSecret reads what a reference stands for; a value that is none is taken as it is. The error
// names the place, never what was found there.
func resolveSecret(property, value string) (string, error) {
	m := reference.FindStringSubmatch(value)
	if m == nil {
		return value, nil
	}
	kind, place, _ := strings.Cut(m[1], ":")
	if kind == "env" {
		v, ok := os.LookupEnv(place)
		if !ok || v == "" {
			return "", &PropertyError{Name: property, Reason: fmt.Sprintf("the environment variable %s is not set in this process", place),
				Hint: "the job manager and every task manager need it"}
		}
		return v, nil
	}
	v, err := readSmallFile(place)
	if err == nil && v == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", &PropertyError{Name: property, Reason: fmt.Sprintf("read the file %s: %v", place, err),
			Hint: "the job manager and every task manager need it"}
	}
	return v, nil
}

// readSmallFile reads a file without the line end that editors put behind it.
func readSmallFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", withoutPath(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", withoutPath(err)
	}
	if len(data) > maxSecretBytes {
		return "", fmt.Errorf("it is larger than %d bytes", maxSecretBytes)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r"), nil
}

// withoutPath drops what the caller says anyway.
func withoutPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// credentialsDigest changes with the login and with the files that the properties name. What cannot be read counts as
// nothing: whoever connects with it says why.
func (c *Config) credentialsDigest() []byte {
	h := sha256.New()
	if login, err := saslConfig(c.connection); err == nil {
		fmt.Fprintf(h, "%q %q\n", login.Username, login.Password)
	}
	for i := range securityProperties {
		p := &securityProperties[i]
		if path, ok := c.connection[p.Name]; ok && p.Type == File {
			if info, err := os.Stat(path); err == nil {
				fmt.Fprintf(h, "%s %d %d\n", p.Name, info.Size(), info.ModTime().UnixNano())
			}
		}
	}
	return h.Sum(nil)
}

// login is what a sasl.jaas.config says.
type login struct {
	module, username, password string
}

// modules are the login modules that are understood.
var modules = map[string]bool{
	"org.apache.kafka.common.security.plain.PlainLoginModule": true,
	"org.apache.kafka.common.security.scram.ScramLoginModule": true,
}

func moduleOf(mechanism string) string {
	if mechanism == "PLAIN" {
		return "org.apache.kafka.common.security.plain.PlainLoginModule"
	}
	return "org.apache.kafka.common.security.scram.ScramLoginModule"
}

const jaasHint = `want MODULE required username="…" password="${env:NAME}";`

// checkJAAS checks a sasl.jaas.config before it is resolved.
func checkJAAS(value string) error {
	if isReference(value) {
		return nil
	}
	l, err := parseJAAS(value)
	if err != nil {
		return err
	}
	if !isReference(l.password) {
		return &PropertyError{Name: propJAAS, Reason: "the password stands in the job file", Hint: referenceHint}
	}
	return nil
}

// parseJAAS reads the one form of JAAS that Kafka clients need. Everything else is refused: JAAS can name
// any class. Errors do not show the text, it holds a password.
func parseJAAS(value string) (login, error) {
	var l login
	fault := func(format string, args ...any) (login, error) {
		return login{}, &PropertyError{Name: propJAAS, Reason: fmt.Sprintf(format, args...), Hint: jaasHint}
	}
	module, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
	if !modules[module] {
		return fault("the login module is not one of PlainLoginModule and ScramLoginModule")
	}
	l.module = module
	rest, ok := strings.CutPrefix(strings.TrimSpace(rest), "required")
	if !ok {
		return fault("the word required is missing behind the login module")
	}
	seen := map[string]bool{}
	for {
		rest = strings.TrimSpace(rest)
		if rest == ";" {
			break
		}
		name, after, ok := strings.Cut(rest, "=")
		if name = strings.TrimSpace(name); !ok || (name != "username" && name != "password") || seen[name] {
			return fault("it has more than one username and one password, or no ; at the end")
		}
		seen[name] = true
		text, tail, ok := quoted(strings.TrimSpace(after))
		if !ok {
			return fault("the %s is not in double quotes", name)
		}
		if name == "username" {
			l.username = text
		} else {
			l.password = text
		}
		rest = tail
	}
	if l.username == "" || l.password == "" {
		return fault("the username or the password is missing")
	}
	return l, nil
}

// quoted reads a text in double quotes, with \" and \\ within, and returns what is behind it.
func quoted(s string) (text, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", "", false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:], true
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}
