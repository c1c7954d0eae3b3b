// Package dynamic reads settings of the Temporal server's dynamic
// configuration from a command line. It is apart from the server, so that its
// test need not compile that.
package dynamic

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/server/common/dynamicconfig"
)

// Values are settings, each as KEY=VALUE with a value in JSON, as for the flag
// --dynamic-config-value of Temporal's own development server. Of several with
// the same key the last one counts. Nil: there are none.
type Values []string

// Validate reports what is no setting, a key that the server does not know,
// and a value that is not of the key's type. The server itself would go on
// with its default, and only log that.
func (v Values) Validate() error {
	_, err := v.Load()
	return err
}

// Load returns the settings as the server takes them. The error is that of
// Validate.
func (v Values) Load() (dynamicconfig.ConfigValueMap, error) {
	var loader dynamicconfig.YamlLoader
	for _, setting := range v {
		key, text, ok := strings.Cut(setting, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not of the form KEY=VALUE, such as frontend.namespaceRPS=100", setting)
		}
		if !json.Valid([]byte(text)) {
			return nil, fmt.Errorf("%s: %q is not JSON; a text goes in double quotes of its own", key, text)
		}
		// JSON is YAML, whose reader is the one that knows the keys.
		loader.LoadValue(dynamicconfig.MakeKey(key), fmt.Appendf(nil, `[{"value": %s}]`, text))
		if err := errors.Join(append(loader.Errors, loader.Warnings...)...); err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
	}
	return loader.Map, nil
}
