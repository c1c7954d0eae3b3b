// Package settings reads a program's flags and environment variables into
// one struct. It refuses what it does not know: a misspelt variable would
// otherwise be a setting that is silently not set.
package settings

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Env is the environment of a program. It is what Temporal's envconfig takes,
// too.
type Env map[string]string

// EnvOf reads "name=value" pairs, as [os.Environ] gives them.
func EnvOf(environ []string) Env {
	env := make(Env, len(environ))
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// Environ returns the environment as "name=value" pairs, sorted.
func (e Env) Environ() []string {
	pairs := make([]string, 0, len(e))
	for name, value := range e {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	return pairs
}

// LookupEnv returns one variable and whether it is set.
func (e Env) LookupEnv(name string) (string, bool) {
	value, ok := e[name]
	return value, ok
}

// ErrHelp is what Parse returns after it has printed the help.
var ErrHelp = errors.New("help was asked for")

// prefix is of the variables that belong to Runcast.
const prefix = "RUNCAST_"

// shared are the variables of all programs, so that one file of settings can
// serve them all. Each program must name its own here, which a test of each
// holds it to.
var shared = []string{
	"RUNCAST_ALLOWED_ORIGINS", "RUNCAST_API_ADDR", "RUNCAST_API_URL", "RUNCAST_CALLBACK_URL", "RUNCAST_DRAIN", "RUNCAST_EMAIL_TOKEN", "RUNCAST_KEEP_HOURS",
	"RUNCAST_KEEP_MESSAGES", "RUNCAST_KEY_PREFIX", "RUNCAST_LOG_FORMAT", "RUNCAST_LOG_LEVEL",
	"RUNCAST_MAX_BODY", "RUNCAST_MAX_EVENTS", "RUNCAST_MAX_PRODUCERS", "RUNCAST_MAX_TOPICS",
	"RUNCAST_MAX_UPSTREAMS", "RUNCAST_MAX_VIEWERS", "RUNCAST_MODEL", "RUNCAST_MODEL_KEY", "RUNCAST_MODEL_URL",
	"RUNCAST_PAYLOAD_KEYS", "RUNCAST_PUBLIC_URL", "RUNCAST_PUSH_ALLOW", "RUNCAST_PUSH_SECRETS", "RUNCAST_RECONCILE_EVERY", "RUNCAST_REPLY_WAIT",
	"RUNCAST_SHOW_TEXT", "RUNCAST_STRATEGY", "RUNCAST_SUBSCRIBER_ADDR", "RUNCAST_SUBSCRIBER_URL", "RUNCAST_TASK_QUEUE",
	"RUNCAST_TEMPORAL_UI_URL", "RUNCAST_TIME_ZONE", "RUNCAST_TLS_CERT", "RUNCAST_TLS_KEY",
	"RUNCAST_TRUSTED_PROXIES", "RUNCAST_TTL_CLOSED", "RUNCAST_TTL_RUNNING", "RUNCAST_WORKDAYS",
	"RUNCAST_WORKER_ADDR",
}

// testPrefix is of variables that only tests read.
const testPrefix = prefix + "TEST_"

// Parse reads args and env into config, a pointer to a struct with kong's
// tags; the tag from:"NAME" names a flag's environment variable. A flag wins
// over its variable, and a variable that is empty counts as not set.
//
// A config may have two methods: Vars() map[string]string gives values for
// ${name} in its tags, and Validate() error is asked last, since settings may
// contradict each other.
//
// Help goes to stdout and is the error [ErrHelp]. Every other error names the
// flag or variable at fault.
func Parse(program, about string, config any, args []string, env Env, stdout io.Writer) error {
	if err := CheckUnknown(env); err != nil {
		return err
	}
	parser, err := newParser(program, about, config, env, stdout)
	if err != nil {
		return fmt.Errorf("build the command line of %s: %w", program, err)
	}
	return parse(parser, args)
}

// exit carries kong's wish to end the process after --help out of its parse.
type exit struct{}

func newParser(program, about string, config any, env Env, stdout io.Writer) (*kong.Kong, error) {
	vars := kong.Vars{}
	if v, ok := config.(interface{ Vars() map[string]string }); ok {
		vars = v.Vars()
	}
	return kong.New(config,
		vars,
		kong.Name(program),
		kong.Description(about),
		kong.Writers(stdout, stdout),
		kong.Exit(func(int) { panic(exit{}) }),
		kong.ValueFormatter(func(v *kong.Value) string {
			if name := v.Tag.Get("from"); name != "" {
				return v.Help + " ($" + name + ")"
			}
			return v.Help
		}),
		// kong would read the process's environment: not a test's, nor that
		// of several programs in one process.
		kong.Resolvers(kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
			if value := env[flag.Tag.Get("from")]; value != "" {
				return value, nil
			}
			return nil, nil
		})),
	)
}

func parse(parser *kong.Kong, args []string) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exit:
			err = ErrHelp
		default:
			panic(r)
		}
	}()
	if _, err := parser.Parse(args); err != nil {
		return fmt.Errorf("%w; --help lists all settings", err)
	}
	return nil
}

// CheckUnknown reports variables that look like Runcast's and are no
// program's. [Parse] does so by itself.
func CheckUnknown(env Env) error {
	var unknown []string
	for name := range env {
		if strings.HasPrefix(name, prefix) && !strings.HasPrefix(name, testPrefix) && !slices.Contains(shared, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("unknown environment variable %s; the known ones are %s",
		strings.Join(unknown, ", "), strings.Join(shared, ", "))
}

// Variables returns the environment variables that config's flags name, and
// those of them that are missing in the list of all programs.
func Variables(config any) (names, missing []string, err error) {
	parser, err := newParser("x", "", config, nil, io.Discard)
	if err != nil {
		return nil, nil, err
	}
	for _, flag := range parser.Model.Flags {
		name := flag.Tag.Get("from")
		if name == "" {
			continue
		}
		names = append(names, name)
		if strings.HasPrefix(name, prefix) && !slices.Contains(shared, name) {
			missing = append(missing, name)
		}
	}
	return names, missing, nil
}
