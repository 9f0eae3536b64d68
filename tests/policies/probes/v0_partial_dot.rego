# expect: refused
# opa: undefined
package envoy.authz
p.foo { input.x }
allow { not p.foo }
