// Package daemon wires the two daemons: settings, logging, TLS, listeners. cmd/jobmanager and
// cmd/taskmanager are its mains; sluice run and sluice demo start the same code.
package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// ErrUsage marks errors of the command line or the configuration: exit code 2.
var ErrUsage = errors.New("bad usage")

// parse reads flags, then fills what no flag has set from the environment (data-dir is
// SLUICE_DATA_DIR) and then from the YAML file of --config (key data-dir). The names are the same
// everywhere; an unknown key in the file is an error.
func parse(fs *pflag.FlagSet, args []string, getenv func(string) (string, bool)) error {
	config := fs.String("config", "", "YAML file with these settings (environment SLUICE_CONFIG)")
	fs.SortFlags = false
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q; see --help", ErrUsage, fs.Arg(0))
	}
	if v, ok := getenv("SLUICE_CONFIG"); ok && *config == "" {
		*config = v
	}
	fromFile := koanf.New("\x00") // no nesting: keys are flag names
	if *config != "" {
		if err := fromFile.Load(file.Provider(*config), yaml.Parser()); err != nil {
			return fmt.Errorf("%w: read configuration %s: %w", ErrUsage, *config, err)
		}
		if err := checkKeys(fs, fromFile.Keys(), *config); err != nil {
			return err
		}
	}
	return fill(fs, getenv, fromFile, *config)
}

func fill(fs *pflag.FlagSet, getenv func(string) (string, bool), fromFile *koanf.Koanf, path string) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "config" || f.Name == "help" {
			return
		}
		env := "SLUICE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, from := "", ""
		if v, ok := getenv(env); ok {
			value, from = v, "environment "+env
		} else if fromFile.Exists(f.Name) {
			value, from = fmt.Sprint(fromFile.Get(f.Name)), path+": "+f.Name
		}
		if from == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: %q is not a %s: %w", ErrUsage, from, value, f.Value.Type(), err))
		}
	})
	return errors.Join(errs...)
}

func checkKeys(fs *pflag.FlagSet, keys []string, path string) error {
	var errs []error
	for _, k := range keys {
		if fs.Lookup(k) == nil || k == "config" {
			errs = append(errs, fmt.Errorf("%w: %s: unknown setting %q, did you mean %q?", ErrUsage, path, k, nearest(fs, k)))
		}
	}
	return errors.Join(errs...)
}

func nearest(fs *pflag.FlagSet, name string) string {
	best, distance := "", 1<<30
	fs.VisitAll(func(f *pflag.Flag) {
		if d := levenshtein.Distance(f.Name, name, nil); d < distance {
			best, distance = f.Name, d
		}
	})
	return best
}

// logger writes text to a terminal and JSON to everything else.
func logger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("%w: log-level %q: want debug, info, warn or error", ErrUsage, level)
	}
	opts := &slog.HandlerOptions{Level: l}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return slog.New(slog.NewJSONHandler(w, opts)), nil
}

// checkListen refuses an address outside of loopback unless it is protected by TLS or the operator has
// said that the network is trusted. HTTP is never protected. An empty address is one that is not served.
func checkListen(flag, addr string, allowed bool) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%w: --%s %q is not HOST:PORT", ErrUsage, flag, addr)
	}
	if allowed || host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%w: --%s %q is not a loopback address and TLS is off: set --tls-cert, --tls-key and --tls-ca, or pass --insecure if the network is trusted",
			ErrUsage, flag, addr)
	}
	return nil
}
