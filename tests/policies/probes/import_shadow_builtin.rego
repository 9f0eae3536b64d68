# expect: refused
# opa: refused
package envoy.authz
import data.lib.json
allow if not json.unmarshal("1")
