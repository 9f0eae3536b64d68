# expect: equal
# opa: true
package envoy.authz
p := [input.missing]
allow if not p
