# expect: equal
# opa: true
package envoy.authz
allow if not data.missing.foo
