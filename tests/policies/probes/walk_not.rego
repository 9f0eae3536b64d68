# expect: equal
# opa: undefined
package envoy.authz
found if { walk(input, [_, v]); v == "evil" }
allow if not found
