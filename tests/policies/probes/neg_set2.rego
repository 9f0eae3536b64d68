# expect: equal
# opa: undefined
package envoy.authz
deny contains msg if { input.x; msg := sprintf("%v", [input.x]) }
allow if count(deny) == 0
