package choice

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Known are the names that rules may use.
type Known struct {
	Strategies, Types []string
	// Missing are strategies that cannot be used as things are, with what
	// would help.
	Missing map[string]string
}

// Default is the key of the rule for all types that have none of their own.
const Default = "default"

// maxFile bounds a file of rules, in bytes.
const maxFile = 64 << 10

// Load reads a setting: the name of a strategy, rules, or the path of a file
// with them. Whatever has a colon is rules. An empty one is the first of the
// strategies for all.
func Load(setting string, known Known) (*Rules, error) {
	text := setting // how far rules are indented counts
	switch setting = strings.TrimSpace(setting); {
	case setting == "":
		return Fixed(known.Strategies[0]), nil
	case slices.Contains(known.Strategies, setting):
		return Fixed(setting), nil
	case strings.Contains(setting, ":"):
		return Parse(text, known)
	case known.Missing[setting] != "":
		return nil, fmt.Errorf("the strategy %s cannot be used: %s", setting, known.Missing[setting])
	}
	f, err := os.Open(setting)
	if err != nil {
		return nil, fmt.Errorf("%q is neither a strategy (%s) nor rules (TYPE: STRATEGY) nor a file that can be read: %w",
			setting, strings.Join(known.Strategies, ", "), err)
	}
	defer f.Close()
	rules, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the rules: %w", err)
	}
	if len(rules) > maxFile {
		return nil, fmt.Errorf("%s: rules have at most %d bytes", setting, maxFile)
	}
	r, err := Parse(string(rules), known)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return r, nil
}

// Parse reads rules in YAML: a workflow type, or "default", and its strategy,
// or strategies with their percentages.
//
//	default: redis
//	ProgressiveWorkflow: {redis: 90, update: 10}
//
// Without a default it is the first of the known strategies. An error names
// line, key, cause and cure; it tells all that is wrong.
func Parse(text string, known Known) (*Rules, error) {
	var doc yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the rules are no YAML: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the rules are more than one document; leave the --- out")
	}
	rules := Fixed(known.Strategies[0])
	if len(doc.Content) == 0 {
		return rules, nil
	}
	p := parser{known: known}
	rules.types = make(map[string]rule)
	p.mapping(doc.Content[0], "the rules", func(key string, value *yaml.Node) {
		switch {
		case key == Default:
			rules.other = p.rule(key, value)
		case !slices.Contains(known.Types, key):
			p.fail(value, key, "this is no workflow type; use %s, or %s", strings.Join(known.Types, ", "), Default)
		default:
			rules.types[key] = p.rule(key, value)
		}
	})
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return rules, nil
}

type parser struct {
	known Known
	errs  []error
}

func (p *parser) fail(at *yaml.Node, key, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("line %d, %s: %s", at.Line, clip(key), fmt.Sprintf(format, args...)))
}

// mapping calls each with the pairs of a mapping that has plain text as keys,
// each once.
func (p *parser) mapping(n *yaml.Node, name string, each func(key string, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.fail(n, name, "this is no mapping; write NAME: VALUE")
		return
	}
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			p.fail(key, name, "a key is not plain text; write the name")
		case value.Kind == yaml.AliasNode:
			p.fail(value, key.Value, "aliases are not followed; write it out")
		case seen[key.Value]:
			p.fail(key, key.Value, "this is there twice; keep one")
		default:
			seen[key.Value] = true
			each(key.Value, value)
		}
	}
}

// rule reads a strategy, or strategies with their percentages.
func (p *parser) rule(key string, n *yaml.Node) rule {
	if n.Kind == yaml.ScalarNode {
		if !p.strategy(key, n, n.Value) {
			return nil
		}
		return rule{{n.Value, 100}}
	}
	var r rule
	sum, ok := 0, true
	p.mapping(n, key, func(name string, value *yaml.Node) {
		if !p.strategy(key, value, name) {
			ok = false
			return
		}
		share, err := strconv.Atoi(value.Value)
		if value.Kind != yaml.ScalarNode || err != nil || share < 0 || share > 100 {
			p.fail(value, key+"."+name, "%q is no percentage; give a whole number from 0 to 100", clip(value.Value))
			ok = false
			return
		}
		sum += share
		r = append(r, arm{name, share})
	})
	if ok && sum != 100 && n.Kind == yaml.MappingNode {
		p.fail(n, key, "the percentages add up to %d; make them 100", sum)
	}
	// Who writes them in another order means the same.
	slices.SortFunc(r, func(a, b arm) int { return cmp.Compare(a.strategy, b.strategy) })
	return r
}

func (p *parser) strategy(key string, at *yaml.Node, name string) bool {
	if slices.Contains(p.known.Strategies, name) {
		return true
	}
	if why := p.known.Missing[name]; why != "" {
		p.fail(at, key, "the strategy %s cannot be used: %s", name, why)
		return false
	}
	p.fail(at, key, "there is no strategy %q; use %s", clip(name), strings.Join(p.known.Strategies, ", "))
	return false
}

// clip bounds what is repeated in a message.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
