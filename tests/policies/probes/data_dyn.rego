# expect: equal
# opa: true
package envoy.authz
foo.a := 1
allow if data.envoy.authz.foo[input.k] == 1
