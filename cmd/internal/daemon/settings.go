// Package daemon wires the two daemons: settings, logging, TLS, listeners. cmd/jobmanager and
// cmd/taskmanager are its mains; sluice run and sluice demo start the same code.
package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
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
// everywhere; an unknown key in the file is an error. All errors are reported at once.
func parse(fs *pflag.FlagSet, p Process) error {
	config := fs.String("config", "", "YAML `FILE` with these settings (environment SLUICE_CONFIG)")
	fs.SortFlags = false
	if err := fs.Parse(p.Args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return flagError(fs, err)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q; see --help", ErrUsage, fs.Arg(0))
	}
	if v, ok := p.lookupEnv("SLUICE_CONFIG"); ok && *config == "" {
		*config = v
	}
	fromFile := map[string]any{}
	if *config != "" {
		k := koanf.New("\x00") // no nesting: keys are flag names
		if err := k.Load(file.Provider(*config), yaml.Parser()); err != nil {
			return fmt.Errorf("%w: read configuration %s: %w", ErrUsage, *config, err)
		}
		fromFile = k.Raw()
	}
	return errors.Join(checkKeys(fs, fromFile, *config), fill(fs, p, fromFile, *config))
}

// flagError says what a flag wants, and which flag may have been meant.
func flagError(fs *pflag.FlagSet, err error) error {
	var bad *pflag.InvalidValueError
	if errors.As(err, &bad) {
		return fmt.Errorf("%w: --%s %q: want %s", ErrUsage, bad.GetFlag().Name, bad.GetValue(), wanted(bad.GetFlag()))
	}
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w: %w; %s", ErrUsage, err, suggestion(fs, unknown.GetSpecifiedName(), "--"))
	}
	return fmt.Errorf("%w: %w; see --help", ErrUsage, err)
}

func fill(fs *pflag.FlagSet, p Process, fromFile map[string]any, path string) error {
	var errs []error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "config" || f.Name == "help" {
			return
		}
		env := "SLUICE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, from := "", ""
		if v, ok := p.lookupEnv(env); ok {
			value, from = v, "environment "+env
		} else if v, ok := fromFile[f.Name]; ok {
			from = path + ": " + f.Name
			switch v.(type) {
			case nil, []any, map[string]any:
				errs = append(errs, fmt.Errorf("%w: %s: want %s, one value ('' for an empty one)", ErrUsage, from, wanted(f)))
				return
			}
			value = fmt.Sprint(v)
		}
		if from == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%w: %s: %q: want %s", ErrUsage, from, value, wanted(f)))
		}
	})
	return errors.Join(errs...)
}

// wanted is the type of a flag in words.
func wanted(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "a whole number"
	case "bool":
		return "true or false"
	case "duration":
		return "a duration such as 500ms or 5s"
	default:
		return "a text"
	}
}

func checkKeys(fs *pflag.FlagSet, settings map[string]any, path string) error {
	var errs []error
	for _, k := range slices.Sorted(maps.Keys(settings)) {
		if fs.Lookup(k) == nil || k == "config" || k == "help" {
			errs = append(errs, fmt.Errorf("%w: %s: unknown setting %q; %s", ErrUsage, path, k, suggestion(fs, k, "")))
		}
	}
	return errors.Join(errs...)
}

// suggestion is the nearest flag, if one is near enough to have been meant.
func suggestion(fs *pflag.FlagSet, name, prefix string) string {
	best, distance := "", max(2, len(name)/3)+1
	fs.VisitAll(func(f *pflag.Flag) {
		if d := levenshtein.Distance(f.Name, name, nil); d < distance && f.Name != "help" && f.Name != "config" {
			best, distance = f.Name, d
		}
	})
	if best == "" {
		return "--help lists what there is"
	}
	return fmt.Sprintf("did you mean %s%s?", prefix, best)
}

// usage marks the faults of a configuration as such.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrUsage, err)
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
