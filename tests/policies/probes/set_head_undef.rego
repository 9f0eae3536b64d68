# expect: equal
# opa: undefined
package envoy.authz
p contains obj.b if { some obj in input.xs }
allow if not p[1]
